"""Trainings that are killed while they train end with the bytes of one that was not: 20 kills here, 200 by `make soak`.

What is killed is `python tasks/train.py`, after its first step. KILLS=n asks for another number.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from airloop.pod_spec import GRACE_SECONDS

from tasks.core.urls import url_of
from tasks.settings.environment import CODE
from tests.killing import digests, kill_in_training, run_to_end
from tests.makers import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(0 if "KILLS" in os.environ else 1800)]

SHARES = {"xgboost": 8, "mlp": 7, "mlp in two processes": 5}
"""Of 20 kills, how many hit each kind of training."""
KILLS = int(os.environ.get("KILLS") or 20)
ARGV = [sys.executable, "tasks/train.py"]


@dataclass(frozen=True)
class Training:
    """A workspace and what an undisturbed training leaves in it."""

    kind: str
    root: Path
    env: dict[str, str]
    expected: dict[str, str]
    span: float
    """Seconds from its first step to its end."""

    @property
    def store(self) -> Path:
        return self.root.parent / "store/flights"

    def check(self) -> None:
        """The result is the expected one, and no checkpoint is left behind."""
        assert digests(self.root / "model") == self.expected
        assert not list((self.store / "checkpoints").glob("*")), "a training that is done leaves no checkpoint"


def workspace(root: Path, kind: str) -> Workspace:
    made = Workspace(root, rows_a_day=20)
    train = made.raw["train"]
    family, _, several = kind.partition(" ")
    train |= {"family": family, "checkpoint": {"steps": 10, "seconds": 3600, "keep": 2}}
    train["xgboost"] |= {"rounds": 600, "eta": 0.01, "early_stopping_rounds": 600, "segment_rounds": 10}
    train["mlp"] |= {"epochs": 20, "early_stopping_epochs": 20, "device_batch": 32, "processes": 2 if several else 1}
    shutil.copytree(CODE / "models", root / "models", dirs_exist_ok=True)
    (root / "tasks").symlink_to(CODE / "tasks")
    made.save()
    return made


@pytest.fixture(scope="module", params=SHARES)
def training(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Training:
    folder = tmp_path_factory.mktemp("training")
    root = workspace(folder / "run", request.param).root
    env = {
        "PYTHONPATH": str(CODE),
        "AIRLOOP_STORE": url_of(folder / "store"),
        "MLFLOW_TRACKING_URI": "",
        "PYTHONUNBUFFERED": "1",
    }
    span = span_of(root, env)
    return Training(request.param, root, env, digests(root / "model"), span)


def span_of(root: Path, env: dict[str, str]) -> float:
    """Seconds of a whole training, from its first step on."""
    process = start(root, env)
    begun = first_step(process)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    return time.monotonic() - begun


def start(root: Path, env: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ARGV, cwd=root, env={**os.environ, **env}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def first_step(process: subprocess.Popen[str]) -> float:
    """Waits for it; returns when it was."""
    said = []
    for line in process.stdout:
        said.append(line)
        if " begins" in line:
            return time.monotonic()
    raise AssertionError("".join(said))


def test_killed_while_it_trains_it_ends_with_the_same_bytes(training: Training) -> None:
    times = round(KILLS * SHARES[training.kind] / 20)
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
    print(f"{training.kind}: {kills}")
    run_to_end(ARGV, training.root, training.env)
    training.check()
    assert kills.landed == times
    assert kills.resumed >= times / 2, f"too few went on from a checkpoint to show anything: {kills}"
    # By chance few do; and of two processes the one that writes dies a moment after its parent.
    assert times < 20 or kills.writes, f"none hit a write: {kills}"
    assert (kills.processes > 2) == ("two processes" in training.kind)


@pytest.mark.parametrize("training", ["xgboost", "mlp in two processes"], indirect=True)
def test_asked_to_end_it_does_within_seconds_and_goes_on_from_there(training: Training) -> None:
    process = start(training.root, training.env)
    first_step(process)
    asked = time.monotonic()
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 143, output
    assert "ends as it was asked to" in output
    assert time.monotonic() - asked < GRACE_SECONDS
    run_to_end(ARGV, training.root, training.env)
    training.check()
