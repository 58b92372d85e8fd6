"""Kinds of faults: each happens to a try at a moment, and then the try is over, one way or another.

A try is what Airflow's task starts: `python -m tasks.running` in a session of its own, its stdin a pipe from the starter.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from tasks.core.results import RESULT_VARIABLE, Result, read
from tasks.running.variables import GUARDED
from tasks.settings.environment import CODE
from tests.faults.world import Place, Step

PATIENCE = 240.0
"""Seconds that one try may take on a busy machine."""
ROOM = 768 * 2**20
"""Bytes of a disk that a whole run fits on."""


class Try:
    """A started try of ``step`` at ``place``."""

    def __init__(self, step: Step, place: Place) -> None:
        self._document = place.folder / f"result-{time.monotonic_ns()}.json"
        log = self._document.with_suffix(".log")
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                step.argv(),
                cwd=CODE,
                env=place.environment(**{GUARDED: "1", RESULT_VARIABLE: str(self._document)}),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self, seconds: float = PATIENCE) -> int | None:
        """Its exit code; None when it has not ended by then."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def result(self) -> Result | None:
        """Its result document."""
        return read(self._document)

    def runner(self) -> psutil.Process | None:
        """The process that runs the protocol, below the one that guards it."""
        return next(iter(_children(self.process.pid)), None)

    def work(self) -> psutil.Process | None:
        """The stage's own process, if it runs now."""
        runner = self.runner()
        return next(iter(_children(runner.pid)), None) if runner else None

    def kill(self) -> None:
        """End whatever is left of it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if self.process.stdin:
            self.process.stdin.close()


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children()
    except psutil.Error:
        return []


Fault = Callable[[Try, Place, random.Random], None]
"""Does its harm to a running try; returns when the try is over, or is to be given up."""


def kill_task(running: Try, _: Place, __: random.Random) -> None:
    """SIGKILL to everything of the task."""
    running.kill()


def kill_stage(running: Try, _: Place, __: random.Random) -> None:
    """SIGKILL to the stage's own process, as the kernel does that is out of memory."""
    _sigkill(running.work() or running.runner())
    running.wait()


def kill_runner(running: Try, _: Place, __: random.Random) -> None:
    """SIGKILL to the process around the stage; the stage itself may go on beside the next try."""
    _sigkill(running.runner())


def lose_starter(running: Try, _: Place, __: random.Random) -> None:
    """The supervisor is killed: the pipe from it closes."""
    assert running.process.stdin is not None
    running.process.stdin.close()
    running.wait()


def stop(running: Try, _: Place, __: random.Random) -> None:
    """SIGSTOP to all of it, as a suspended laptop does; it is woken when the next try works."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(running.process.pid, signal.SIGSTOP)


def tear_file(running: Try, place: Place, moments: random.Random) -> None:
    """SIGKILL, and a file of the workspace is only half there."""
    running.kill()
    files = [
        path
        for path in (place.home / "runs").rglob("*")
        if path.is_file() and not path.is_symlink() and _torn_by_kill(path)
    ]
    if files:
        torn = moments.choice(sorted(files))
        torn.chmod(0o644)
        data = torn.read_bytes()
        torn.unlink()  # it may be a link into the cache, which nothing writes to in place
        torn.write_bytes(data[: len(data) // 2])


def _torn_by_kill(path: Path) -> bool:
    """Files that are written in place: DVC's own and a stage's outputs; the code of the run and its inputs are not."""
    return path.name == "dvc.lock" or path.parent.name == "tmp" or "model" in path.parts or "golden" in path.parts


def fill_disk(running: Try, place: Place, _: random.Random) -> None:
    """The disk of the workspaces fills up, and is freed after the try."""
    filler = place.home / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 2**20)
    running.wait()
    filler.unlink()


def lose_store(running: Try, place: Place, _: random.Random) -> None:
    """The store is away, and back after the try."""
    store = place.folder / "store"
    away = store.with_name("away")
    store.rename(away)
    store.write_text("not a folder")
    running.wait()
    store.unlink()
    away.rename(store)


KINDS: dict[str, Fault] = {
    "SIGKILL of the task": kill_task,
    "SIGKILL of the stage": kill_stage,
    "SIGKILL of the runner": kill_runner,
    "SIGKILL of the supervisor": lose_starter,
    "SIGSTOP of the task": stop,
    "half-written file": tear_file,
    "full disk": fill_disk,
    "store away": lose_store,
}


@contextlib.contextmanager
def disk(place: Place, *, small: bool) -> Iterator[bool]:
    """A home on a small disk of its own, where that is asked for and this user may mount one; yields whether it is."""
    place.home.mkdir(parents=True)
    mounted = small and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(place.home)], capture_output=True, check=False
    ).returncode == 0  # fmt: skip
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(place.home)], check=True)


@dataclass(frozen=True)
class Case:
    """One cell of the matrix, at one moment."""

    seed: int
    index: int
    """Of the step."""
    kind: str
    moment: float
    """Share of the step's undisturbed time."""


def _sigkill(process: psutil.Process | None) -> None:
    if process is not None:
        with contextlib.suppress(psutil.Error):
            process.kill()
