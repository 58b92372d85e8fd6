"""Kills a command at random moments, then lets it finish: what every stage must survive with the same result.

undisturbed = run_to_end(argv, cwd, env)            # seconds
kills = kill_at_random(argv, cwd, env, times=5, within=undisturbed, seed=7)
run_to_end(argv, cwd, env)
assert digests(cwd / "data") == expected
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from tasks.storage.artefacts import sha256_file


def kill_at_random(
    argv: Sequence[str], cwd: Path, env: Mapping[str, str], *, times: int, within: float, seed: int
) -> int:
    """Start ``argv`` ``times`` times and SIGKILL its process group; returns how often it was still running.

    Every other moment is drawn from the last third of ``within`` seconds, where a stage writes; the others from all of it.
    """
    moments = random.Random(seed)
    killed = 0
    for turn in range(times):
        seconds = moments.uniform(within * 2 / 3 if turn % 2 else 0, within)
        process = _start(argv, cwd, env)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            killed += 1
        _kill(process)
    return killed


def run_to_end(argv: Sequence[str], cwd: Path, env: Mapping[str, str], timeout: float = 300) -> float:
    """Run ``argv`` undisturbed; returns its seconds, and fails with its output if it fails."""
    started = time.monotonic()
    process = _start(argv, cwd, env)
    try:
        output, _ = process.communicate(timeout=timeout)
    finally:
        _kill(process)
    assert process.returncode == 0, f"{' '.join(argv)} failed:\n{output}"
    return time.monotonic() - started


@dataclass
class Kills:
    """What a series of kills hit."""

    landed: int = 0
    """Processes that were killed while they trained: after their first step, before their end."""
    writes: int = 0
    """Of these, killed in the middle of writing a checkpoint: half of it is there."""
    resumed: int = 0
    """Starts that went on from a checkpoint."""
    finished: int = 0
    """Trainings that came to their end first; each left the expected digests."""
    processes: int = 0
    """Most processes that one of them consisted of."""


def kill_in_training(
    argv: Sequence[str],
    cwd: Path,
    env: Mapping[str, str],
    *,
    times: int,
    seed: int,
    span: float,
    store: Path,
    finished: Callable[[], None],
) -> Kills:
    """SIGKILL ``times`` trainings that were at work, each going on from what the one before kept.

    Only the process that was started is killed; all that it started must end by itself.

    Args:
        argv: a training, which says ``train: <family> begins`` or ``goes on`` after its first step.
        cwd: its workspace.
        env: variables of its own.
        times: kills that must land.
        seed: of the moments.
        span: seconds from its first step to its end, undisturbed.
        store: folder of its artefact store. Every third kill waits for half a checkpoint to lie there.
        finished: called when a training comes to its end, which must then have the expected result.
    """
    moments = random.Random(seed)
    kills = Kills()
    while kills.landed < times:
        assert kills.finished <= times, f"trainings end before they can be killed: {kills}"
        before = _halves(store)
        process = _start(argv, cwd, env)
        try:
            resumed = _began(process)
            kills.resumed += resumed
            # Now, because it takes longer than a write does.
            family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
            if kills.landed % 3 == 2:
                _wait_for_half(store, process, span)
            else:
                time.sleep(moments.uniform(0, span / 2))
            process.kill()
        except psutil.NoSuchProcess:
            family = []
        code = process.wait()
        if code == -signal.SIGKILL:
            orphans = psutil.wait_procs(family[1:], timeout=10)[1]
            assert not orphans, f"a killed training left {[p.cmdline() for p in orphans]} behind"
            kills.landed += 1
            kills.writes += bool(_halves(store) - before)
            kills.processes = max(kills.processes, len(family))
        else:
            output = process.stdout.read() if process.stdout else ""
            assert code == 0, f"{' '.join(argv)} failed with {code}:\n{output}"
            kills.finished += 1
            finished()
        _kill(process)
    return kills


def _began(process: subprocess.Popen[str]) -> bool:
    """Wait for the first step, or for the end where none was left to do; returns whether it went on from a checkpoint."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("train: ") and (" begins" in line or " goes on after " in line):
            return " goes on after " in line
    process.wait()
    return False


def _wait_for_half(store: Path, process: subprocess.Popen[str], seconds: float) -> None:
    """Until a checkpoint is being written."""
    before, deadline = _halves(store), time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        if _halves(store) - before:
            return


def _halves(store: Path) -> set[str]:
    """Unfinished checkpoints."""
    found = set()
    with contextlib.suppress(FileNotFoundError):
        for folder in os.scandir(store / "checkpoints"):
            found |= {entry.path for entry in os.scandir(folder.path) if entry.name.endswith(".partial")}
    return found


def digests(folder: Path) -> dict[str, str]:
    """sha256 of every file below ``folder``, hidden and unfinished ones too: litter is a difference."""
    return {p.relative_to(folder).as_posix(): sha256_file(p) for p in sorted(folder.rglob("*")) if p.is_file()}


def _start(argv: Sequence[str], cwd: Path, env: Mapping[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        argv,
        cwd=cwd,
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def _kill(process: subprocess.Popen[str]) -> None:
    """End the whole group: a stage's children must not outlive it and write on."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout:
        process.stdout.close()
