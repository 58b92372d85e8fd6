"""make's commands about models and predictions are about this checkout's services, whatever ports those have."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from local import paths
from tasks.common.urls import url_of


def make(tmp_path: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """make, as a shell without any setting of ours runs it."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("AIRLOOP_", "MLFLOW_", "MAKE"))}
    env |= {"AIRLOOP_HOME": str(tmp_path / "home"), **environ}
    return subprocess.run(["make", *words], cwd=paths.ROOT, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("command", ["rebuild MODEL=99", "rollback VERSION=99"])
def test_the_store_of_this_home_is_asked(command: str, tmp_path: Path) -> None:
    done = make(tmp_path, *command.split())
    assert done.returncode != 0
    assert (
        f"No version 99 was registered in {url_of(tmp_path / 'home/store/flights')}: there is none yet." in done.stderr
    )


def test_what_is_no_prediction_is_said_with_both_forms(tmp_path: Path) -> None:
    done = make(tmp_path, "lineage", "PREDICTION=nonsense")
    assert done.returncode != 0
    assert "No prediction 'nonsense'" in done.stderr
    assert "<model>.2013-04.v1." in done.stderr and "<model>.online.2013-04-05.v1." in done.stderr


def test_a_setting_that_is_wrong_stops_it(tmp_path: Path) -> None:
    done = make(tmp_path, "lineage", "PREDICTION=nonsense", AIRLOOP_MLFLOW_PORT="many")
    assert "AIRLOOP_MLFLOW_PORT='many' is no port" in done.stderr
    assert "No prediction" not in done.stderr


def test_a_command_without_its_variable_says_which(tmp_path: Path) -> None:
    assert "say which: make rebuild MODEL=" in make(tmp_path, "rebuild").stderr
