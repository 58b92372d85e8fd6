"""What the engine may know of a model, and what it costs to ask."""

import subprocess
import sys

import pytest

from tasks import spec
from tasks.core.errors import ConfigError
from tasks.core.frozen import Frozen
from tasks.settings.environment import CODE, environment


def test_a_run_begins_without_a_heavy_library() -> None:
    program = (
        "import sys, tasks.running.cli, tasks.running.windows, tasks.settings.params\n"
        "from tasks import spec\n"
        "spec.sections(sys.argv[1])\n"
        "print(*{'duckdb', 'mlflow', 'numpy', 'pandas', 'pyarrow', 'xgboost'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", program, environment().model]
    done = subprocess.run(command, cwd=CODE, env={"PYTHONPATH": str(CODE)}, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_a_model_without_a_folder_names_the_file_and_the_setting() -> None:
    with pytest.raises(ConfigError, match=r"models/absent/params.py; name a folder of models"):
        spec.sections("absent")


def test_a_model_must_type_its_features(monkeypatch: pytest.MonkeyPatch) -> None:
    model = environment().model
    spec.sections(model)
    monkeypatch.setattr(sys.modules[f"models.{model}.params"], "SECTIONS", {})
    with pytest.raises(ConfigError, match="has no SECTIONS with the class of its section features"):
        spec.sections(model)


def test_a_model_must_say_how_far_its_features_look_back(monkeypatch: pytest.MonkeyPatch) -> None:
    class Features(Frozen):
        days: int

    model = environment().model
    spec.sections(model)
    monkeypatch.setattr(sys.modules[f"models.{model}.params"], "SECTIONS", {"features": Features})
    with pytest.raises(ConfigError, match=r"Features has no property lookback, a datetime.timedelta"):
        spec.sections(model)
