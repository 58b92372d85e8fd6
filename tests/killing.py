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
from collections.abc import Mapping, Sequence
from pathlib import Path

from tasks.common.artefacts import sha256_file


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
