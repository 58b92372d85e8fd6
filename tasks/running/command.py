"""A stage's or job's own process: started in the workspace, ended with us, its result read from its document."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from tasks.core import results
from tasks.core.results import EXIT_CODES, RESULT_VARIABLE, Result, Status


class Ended(Exception):  # noqa: N818 - refused, waiting and skipped are outcomes
    """The command ended by itself and was not done; ``result`` says how and why."""

    def __init__(self, result: Result) -> None:
        super().__init__(result.reason)
        self.result = result


def run(argv: Sequence[str], env: Mapping[str, str] | None = None, *, reports: bool = False) -> Result:
    """Run a command to its end and pass SIGTERM on, so that it can write a checkpoint.

    Args:
        argv: the command line; its output is this process's.
        env: variables besides those of this process.
        reports: whether it has a result document to write, without which it has crashed, whatever its exit code.

    Returns:
        What it reported.

    Raises:
        Ended: it was refused, is waiting or was skipped.
        SystemExit: it crashed or was killed; with its exit code, or 128 and the number of the signal.
    """
    with tempfile.TemporaryDirectory(prefix="airloop-") as folder:
        document = Path(folder) / "result.json"
        code = _run(argv, {**os.environ, **(env or {}), RESULT_VARIABLE: str(document)})
        result = results.read(document)
    if result is None and code == 0 and not reports:
        return Result()  # a stage has nothing to report but its outputs
    if result is None or EXIT_CODES[result.status] != code:
        raise SystemExit(code or 1)
    if result.status is Status.DONE:
        return result
    raise Ended(result)


def _run(argv: Sequence[str], env: Mapping[str, str]) -> int:
    # Whatever becomes of this process, the command holds the run's lease as long as it works (tasks/running/lease.py); all
    # other files are closed in it, since Python opens none that is inherited.
    command = subprocess.Popen(argv, env=env, close_fds=False)

    def forward(number: int, _: FrameType | None) -> None:
        command.send_signal(number)

    before = signal.signal(signal.SIGTERM, forward)
    code = command.wait()
    signal.signal(signal.SIGTERM, before)
    return code if code >= 0 else 128 - code
