"""A second model beside those of the checkout: the castings of tests/models, which land day by day."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import models
from tests.airflow_home import ROOT

NAME = "castings"
FOLDER = ROOT / "tests/models"
DAYS = ("2024-03-28", "2024-03-29", "2024-03-30", "2024-03-31")
"""Its warm-up: the last of them has 23 hours."""
_FOLDERS = ("dags", "local", "models", "plugins", "serving", "tasks", ".dvc")
_FILES = ("dvc.yaml", "jobs.yaml", "params.yaml", ".dvcignore")


def checkout(folder: Path) -> Path:
    """Make a checkout in ``folder``: this one's code, and the castings in its models/, rendered."""
    for name in _FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "tmp"))
    for name in _FILES:
        shutil.copy(ROOT / name, folder)
    shutil.copytree(FOLDER / NAME, folder / "models" / NAME, ignore=shutil.ignore_patterns("__pycache__"))
    run(folder, "-m", "tasks.spec_file", NAME)
    return folder


def run(folder: Path, *words: str, **environ: str) -> str:
    """Run Python in the checkout ``folder`` with its code; returns what it says."""
    env = {**os.environ, "AIRLOOP_CODE": str(folder), "PYTHONPATH": str(folder), **environ}
    done = subprocess.run([sys.executable, *words], cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process import the model, as ``tasks.spec.declared(NAME)`` does."""
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(FOLDER)])
