"""Trainings that are killed while they train end with the bytes of one that was not: 20 kills here, 200 by `make soak`.

What is killed is `python tasks/train.py`, after its first step. KILLS=n asks for another number.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks.common.environment import CODE
from tests.killing import digests, kill_in_training, run_to_end
from tests.makers import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]

SHARES = {"xgboost": 8, "mlp": 7, "mlp in two processes": 5}
"""Of 20 kills, how many hit each kind of training."""
KILLS = int(os.environ.get("KILLS") or 20)
ARGV = [sys.executable, "tasks/train.py"]


@dataclass(frozen=True)
class Training:
    """A workspace and what an undisturbed training leaves in it."""

    root: Path
    env: dict[str, str]
    expected: dict[str, str]
    span: float
    """Seconds from its first step to its end."""

    @property
    def store(self) -> Path:
        return self.root.parent / "store"

    def check(self) -> None:
        """The result is the expected one, and no checkpoint is left behind."""
        assert digests(self.root / "model") == self.expected
        assert not list((self.store / "checkpoints").glob("*")), "a training that is done leaves no checkpoint"


def workspace(root: Path, kind: str) -> Workspace:
    made = Workspace(root, rows_a_day=20)
    train = made.raw["train"]
    family, _, several = kind.partition(" ")
    train |= {"family": family, "checkpoint": {"steps": 10, "seconds": 3600, "keep": 2, "days": 14}}
    train["xgboost"] |= {"rounds": 600, "eta": 0.01, "early_stopping_rounds": 600, "segment_rounds": 10}
    train["mlp"] |= {"epochs": 20, "early_stopping_epochs": 20, "device_batch": 32, "processes": 2 if several else 1}
    made.save()
    (root / "tasks").symlink_to(CODE / "tasks")
    return made


@pytest.fixture(params=SHARES)
def training(request: pytest.FixtureRequest, tmp_path: Path) -> Training:
    root = workspace(tmp_path / "run", request.param).root
    env = {
        "PYTHONPATH": str(CODE),
        "AIRLOOP_STORE": (tmp_path / "store").as_uri(),
        "MLFLOW_TRACKING_URI": "",
        "PYTHONUNBUFFERED": "1",
    }
    span = span_of(root, env)
    return Training(root, env, digests(root / "model"), span)


def span_of(root: Path, env: dict[str, str]) -> float:
    """Seconds of a whole training, from its first step on."""
    process = subprocess.Popen(
        ARGV, cwd=root, env={**os.environ, **env}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    begun = next(time.monotonic() for line in process.stdout if " begins" in line)
    process.communicate()
    assert process.returncode == 0
    return time.monotonic() - begun


def test_killed_while_it_trains_it_ends_with_the_same_bytes(training: Training, request: pytest.FixtureRequest) -> None:
    kind = request.node.callspec.params["training"]
    times = round(KILLS * SHARES[kind] / 20)
    kills = kill_in_training(
        ARGV,
        training.root,
        training.env,
        times=times,
        seed=20130212,
        span=training.span,
        store=training.store,
        finished=training.check,
    )
    print(f"{kind}: {kills}")
    run_to_end(ARGV, training.root, training.env)
    training.check()
    assert kills.landed == times
    assert kills.resumed >= times / 2, f"too few went on from a checkpoint to show anything: {kills}"
    assert kills.writes >= times / 10, f"too few hit a write: {kills}"
