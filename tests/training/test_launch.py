"""The stage's own command with two processes: torchrun's agent and its workers end with the stage, however that ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tasks.core.urls import url_of
from tasks.settings.environment import CODE
from tasks.storage.artefacts import Store
from tests import makers


class Stage:
    """`python tasks/train.py` in a workspace, in a session of its own as the operators start it."""

    def __init__(self, workspace: makers.Workspace, **environ: str) -> None:
        self.store = Store(url_of(workspace.root / "store")).part("flights")
        self.temporary = workspace.root / "tmp"
        self.temporary.mkdir(exist_ok=True)
        known = {"PYTHONPATH": str(CODE), "AIRLOOP_STORE": self.store.shared.url, "MLFLOW_TRACKING_URI": ""}
        env = os.environ | known | {"TMPDIR": str(self.temporary)} | environ
        self.log = workspace.root / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, CODE / "tasks/train.py"],
                cwd=workspace.root,
                env=env,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def workers(self) -> list[psutil.Process]:
        """The agent's workers, as long as the stage lives."""
        return [
            child
            for child in psutil.Process(self.process.pid).children(recursive=True)
            if "tasks.training.neural.worker" in " ".join(child.cmdline())
        ]

    def until_it_has_learned(self) -> list[psutil.Process]:
        """Wait for a checkpoint; the workers."""
        wait(lambda: self.process.poll() is not None or self.store.names("checkpoints"), 240)
        assert self.process.poll() is None, self.log.read_text()
        return self.workers()


def wait(done: Callable[[], object], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> makers.Workspace:
    """One with enough epochs to be interrupted in, which a whole training then is done with."""
    made = makers.Workspace(tmp_path_factory.mktemp("launch"), rows_a_day=60)
    made.raw["train"]["family"] = "mlp"
    made.raw["train"]["checkpoint"] |= {"steps": 5, "seconds": 3600}
    made.raw["train"]["mlp"] |= {"processes": 2, "device_batch": 16, "epochs": 30, "early_stopping_epochs": 30}
    made.save()
    return made


def test_killed_its_workers_die_and_asked_to_end_they_keep_what_they_have(
    workspace: makers.Workspace,
) -> None:
    killed = Stage(workspace)
    workers = killed.until_it_has_learned()
    assert len(workers) == 2
    assert {os.getsid(worker.pid) for worker in workers}.isdisjoint({killed.process.pid}), "out of the group's reach"
    os.killpg(killed.process.pid, signal.SIGKILL)
    killed.process.wait()
    assert not psutil.wait_procs(workers, timeout=20)[1], "a worker went on without its stage"

    before = killed.store.names("checkpoints")
    asked = Stage(workspace)
    wait(lambda: set(asked.store.names("checkpoints")) - set(before) or asked.process.poll() is not None, 240)
    workers = asked.workers()
    asked.process.terminate()
    assert asked.process.wait(60) == 143, asked.log.read_text()
    assert not psutil.wait_procs(workers, timeout=1)[1]
    assert max(asked.store.names("checkpoints")) > max(before)
    assert not (workspace.root / "model").exists()


def test_on_two_machines_the_first_has_the_model(workspace: makers.Workspace, tmp_path: Path) -> None:
    """Each runs the stage's command with torchrun's variables, here both on this one."""
    workspaces = [workspace.copy(tmp_path / str(node)) for node in (0, 1)]
    for each in workspaces:
        shutil.rmtree(each.root / "tmp", ignore_errors=True)  # of the stages that were killed before
        each.raw["train"]["mlp"] |= {"processes": 1, "epochs": 1, "device_batch": 64}
        each.save()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    meeting = {"PET_NNODES": "2", "PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": port}
    stages = [Stage(each, PET_NODE_RANK=str(node), **meeting) for node, each in enumerate(workspaces)]
    for stage in stages:
        assert stage.process.wait(400) == 0, stage.log.read_text()
    facts = json.loads((workspaces[0].root / "model/metrics.json").read_bytes())
    assert facts["steps"] == -(-facts["rows"]["train"] // 128)
    assert not (workspaces[1].root / "model").exists()
    assert "node 1 of 2 is done; node 0 has the result" in stages[1].log.read_text()
    assert not [left for stage in stages for of in ("airloop-*", "torchelastic_*") for left in stage.temporary.glob(of)]
