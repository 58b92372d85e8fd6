"""One command of tasks/ in a process of its own, and what its end means for the Airflow task that started it."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from tasks.core import results
from tasks.core.results import EXIT_CODES, RESULT_VARIABLE, Result, Status
from tasks.running.variables import GUARDED


class CommandError(RuntimeError):
    """The command crashed or was killed: Airflow tries again."""


class WaitError(CommandError):
    """The command needs something that is not there yet; ``payload`` may say what it waits for."""

    def __init__(self, result: Result) -> None:
        super().__init__(result.reason)
        self.payload = dict(result.payload)


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    """Exit code; 128 + n when signal n ended it."""
    result: Result | None = None
    """Its result document; None when it wrote none."""
    last: str = ""
    """Its last line of output: of a crash, the exception."""


class Command:
    """Runs commands one after the other; `stop` ends the one that runs."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def run(self, argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], log: Any) -> Outcome:
        """Run a command until it ends, and log what it prints, line by line.

        Args:
            argv: the command line; its process guards itself (tasks/running/guard.py).
            cwd: its folder.
            env: all its variables.
            log: where its output goes.
        """
        log.info("in %s: %s", cwd, " ".join(argv))
        with tempfile.TemporaryDirectory(prefix="airloop-") as folder:
            document = Path(folder) / "result.json"
            # No `with`: its end waits for the process, also when a timeout unwinds through here and `stop` comes only later.
            self._process = subprocess.Popen(
                argv,
                cwd=cwd,
                env={**env, GUARDED: "1", RESULT_VARIABLE: str(document)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                encoding="utf-8",
                errors="backslashreplace",
            )
            last = self._log(log)
            code = self._process.wait()
            return Outcome(code if code >= 0 else 128 - code, results.read(document), last)

    def _log(self, log: Any) -> str:
        """Log the output to its end; returns the last line that is not empty."""
        assert self._process is not None and self._process.stdout is not None
        last = ""
        for line in self._process.stdout:
            last = line.rstrip() or last
            log.info("%s", line.rstrip())
        return last

    def stop(self) -> None:
        """SIGTERM to the command and all it started; its guard follows with SIGKILL."""
        if self._process is not None and self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)


def conclude(outcome: Outcome) -> Result:
    """Return what the command did; else raise what makes Airflow skip, fail for good, or try again.

    Raises:
        AirflowSkipException: it found nothing to do.
        AirflowFailException: it refused and said why; a retry would not help.
        WaitError: something it needs is not there yet.
        CommandError: it was killed or crashed.
    """
    result = outcome.result
    if result is None or EXIT_CODES[result.status] != outcome.code:
        raise CommandError(_crash(outcome))
    match result.status:
        case Status.DONE:
            return result
        case Status.SKIPPED:
            raise AirflowSkipException(result.reason)
        case Status.WAITING:
            raise WaitError(result)
        case _:
            raise AirflowFailException(result.reason)


def _crash(outcome: Outcome) -> str:
    if outcome.code > 128:
        with suppress(ValueError):
            return f"ended by {signal.Signals(outcome.code - 128).name}; last line: {outcome.last}"
    if outcome.code == 0:
        return f"ended with exit code 0 but wrote no result that says so; last line: {outcome.last}"
    return f"ended with exit code {outcome.code}: {outcome.last}"
