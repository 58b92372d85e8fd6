"""Finds the processes of one home, and ends them. Nothing is ended by its name: a mark in the environment decides."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterable
from pathlib import Path

import psutil

MARK = "AIRLOOP_SUPERVISED"
"""Set to the home by `up` for supervisord and all below it, and by nothing else: a user's shell never carries it."""


def ours(home: Path) -> list[psutil.Process]:
    """All live processes that `up` started for this home, however far below, whoever has adopted them since.

    What is below a marked one is ours too: PostgreSQL's processes write over the environment that the system shows.
    """
    marks: dict[psutil.Process, str | None] = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            marks[process] = None
            marks[process] = process.environ().get(MARK)
    found = [process for process, mark in marks.items() if mark == str(home)]
    below = [
        process
        for process, mark in marks.items()
        if mark is None and _stands_below(process, {one.pid for one in found})
    ]
    return [process for process in [*found, *below] if process.pid != os.getpid() and is_live(process)]


def _stands_below(process: psutil.Process, pids: set[int]) -> bool:
    with contextlib.suppress(psutil.Error):
        return any(parent.pid in pids for parent in process.parents())
    return False


def is_live(process: psutil.Process) -> bool:
    """Whether the process runs; one that has ended and only waits for its parent does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def end(processes: Iterable[psutil.Process], grace: float = 5.0) -> None:
    """Asks each to stop, and kills what is left after `grace` seconds."""
    waiting = list(processes)
    for process in waiting:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _, left = psutil.wait_procs(waiting, timeout=grace)
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(left, timeout=grace)


def listens(pid: int, port: int) -> bool:
    """Whether the process or one below it holds the port."""
    with contextlib.suppress(psutil.Error):
        top = psutil.Process(pid)
        return any(port in _ports(process) for process in (top, *top.children(recursive=True)))
    return False


def holds(process: psutil.Process, port: int) -> bool:
    """Whether this very process listens on the port."""
    with contextlib.suppress(psutil.Error, OSError):
        return port in _ports(process)
    return False


def is_busy(host: str, port: int) -> bool:
    """Whether something answers on the port, or holds it so that a server could not bind it."""
    with socket.socket() as probe:
        # Servers set this too: a connection that closed a moment ago does not hold the port against them.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False


def holder(port: int) -> str:
    """Who listens on the port, as "name, process 123 of the Airloop in /home"; empty where the system does not say."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if port in _ports(process):
                return f"{process.name()}, process {process.pid}{_home_of(process)}"
    return ""


def _home_of(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error, OSError):
        if home := process.environ().get(MARK):
            return f" of the Airloop in {home}"
    return ""


def memory(processes: Iterable[psutil.Process]) -> int:
    """Bytes of memory that the processes hold, pages that they share counted once where the system says."""
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.Error, OSError):
            full = process.memory_full_info()
            total += getattr(full, "pss", full.rss)
    return total


def _ports(process: psutil.Process) -> set[int]:
    connections = process.net_connections("tcp")
    return {link.laddr.port for link in connections if link.status == psutil.CONN_LISTEN}
