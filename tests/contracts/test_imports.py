"""Who may import whom (pyproject.toml says it, import-linter looks), and that nothing of ours is pickled."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.airflow_home import ROOT

OURS = ("bench", "dags", "docker", "local", "models", "plugins", "serving", "tasks")
PICKLED = re.compile(
    r"^\s*(import|from)\s+(pickle|cPickle|cloudpickle|dill|joblib|shelve|marshal)\b"
    r"|allow_pickle\s*=\s*True|weights_only\s*=\s*False|\.(to|read)_pickle\(",
    re.MULTILINE,
)


def imports_allowed(root: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    env = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{root / 'plugins'}"}
    return subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=False)


def test_who_may_import_whom() -> None:
    """tasks/ never imports airflow, among others."""
    done = imports_allowed(ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("file", "line", "said"),
    [
        ("tasks/gate.py", "import airflow", "tasks.gate -> airflow"),
        ("tasks/gate.py", "from models.flights.definitions import LABEL", "tasks.gate -> models.flights.definitions"),
        ("serving/body.py", "from models.flights import request", "serving.body -> models.flights.request"),
        ("bench/online.py", "import models.flights.model", "bench.online -> models.flights.model"),
        ("models/flights/tail.py", "from tasks.validate import judge", "models.flights.tail -> tasks.validate"),
        ("models/flights/tail.py", "import serving.live", "models.flights.tail -> serving.live"),
    ],
)
def test_an_import_that_is_not_allowed_is_seen(tmp_path: Path, file: str, line: str, said: str) -> None:
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    for name in ("bench", "local", "models", "serving", "tasks", "plugins/airloop"):
        source = ROOT / name
        for path in source.rglob("*.py"):
            made = tmp_path / name / path.relative_to(source)
            made.parent.mkdir(parents=True, exist_ok=True)
            made.write_text(path.read_text())
    (tmp_path / file).write_text(f"{line}\n")
    done = imports_allowed(tmp_path)
    assert done.returncode != 0
    assert said in done.stdout


@pytest.mark.parametrize("folder", OURS)
def test_nothing_is_pickled(folder: str) -> None:
    """Models are ONNX, tables Parquet, records JSON: reading those runs nobody's code."""
    found = [str(path.relative_to(ROOT)) for path in (ROOT / folder).rglob("*.py") if PICKLED.search(path.read_text())]
    assert not found, f"{', '.join(found)}: write ONNX, Parquet or JSON instead of a pickle"


@pytest.mark.parametrize(
    "line", ["import pickle", "    from joblib import load", "np.load(f, allow_pickle=True)", "frame.to_pickle(path)"]
)
def test_a_pickle_is_seen(line: str) -> None:
    assert PICKLED.search(f"x = 1\n{line}\n")
