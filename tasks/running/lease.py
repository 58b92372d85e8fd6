"""One try at a time works in a workspace: the newest, since a scheduler starts another only when it gave the earlier one up.

An earlier try may still be there: its supervisor was stopped (a suspended laptop) or cut off, and it does not know that it was
given up. On this machine a lock on a file beside the workspace shows it, and the newer try ends it. On another machine it
finds in the store, before it records anything, that the run is no longer its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import psutil

from tasks.core.errors import Unavailable, warn
from tasks.running import guard
from tasks.running.variables import LEASE
from tasks.storage.artefacts import Store

SECONDS = 30
"""How long an earlier try may take to be gone, once it was ended."""


class Superseded(Unavailable):
    """Another try of the same task took the run over."""


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the lease at ``path``; end the processes of an earlier try that still holds it.

    Raises:
        Unavailable: it does not end.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        if not _locked(file):
            _end(file)
            _wait(file, path)
        _write(file, group=guard.group())
        os.set_inheritable(file.fileno(), True)
        yield


def join() -> None:
    """Hold the lease that AIRLOOP_LEASE names until this process ends; without the variable, do nothing."""
    if not (name := os.environ.pop(LEASE, "")):
        return
    file = Path(name).open("a+", encoding="utf-8")  # noqa: SIM115 - its lock lasts as long as this process
    if not _locked(file):
        raise Superseded(f"{name} is held by another try of this task, so this one ends.")
    _write(file)
    _JOINED.append(file)


_JOINED: list[IO[str]] = []


class Attempt:
    """This try's claim on a run in the store, for tries on other machines; who only helps a try claims nothing."""

    def __init__(self, store: Store, run: str, *, claims: bool = True) -> None:
        self._store, self._name = store, f"runs/{run}/attempt.json"
        self._id = uuid.uuid4().hex
        if claims:
            store.write_json(self._name, {"attempt": self._id})

    def require(self) -> None:
        """Raise Superseded when a later try has claimed the run since."""
        if self._store.read_json(self._name)["attempt"] != self._id:
            raise Superseded(
                "Another try of this task took the run over while this one was stopped or cut off. Nothing of this one is "
                "recorded; the other goes on."
            )


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write(file: IO[str], group: int = 0) -> None:
    file.seek(0)
    file.truncate()
    json.dump({"pid": os.getpid(), "started": psutil.Process().create_time(), "group": group}, file)
    file.flush()


def _end(file: IO[str]) -> None:
    """SIGKILL to who holds the lock and all that it started: a stopped process minds nothing less."""
    file.seek(0)
    try:
        holder = json.load(file)
        pid, group = int(holder["pid"]), int(holder["group"])
    except (ValueError, KeyError, TypeError):
        return
    warn(f"An earlier try of this task still works here (process {pid}); it is ended.")
    with contextlib.suppress(psutil.Error, ProcessLookupError):
        if group:
            os.killpg(group, signal.SIGKILL)  # its members hold the lock, so the number is still theirs
        else:
            _kill_family(psutil.Process(pid), float(holder["started"]))


def _kill_family(process: psutil.Process, started: float) -> None:
    if abs(process.create_time() - started) > 1:
        return  # the number is another process's by now
    for member in [*process.children(recursive=True), process]:
        with contextlib.suppress(psutil.Error):
            member.kill()


def _wait(file: IO[str], path: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while not _locked(file):
        if time.monotonic() > deadline:
            raise Unavailable(
                f"An earlier try of this task still works in the run's workspace and does not end; {path} is locked by it. "
                "End that process, then clear the task."
            )
        time.sleep(0.2)
