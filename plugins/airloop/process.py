"""One command of tasks/ in a process of its own, and what its end means for the Airflow task that started it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

EXIT_SKIP = 99
EXIT_REFUSED = 1
GUARD = Path(__file__).with_name("guard.py")
MAX_REASON_LINES = 20
WRAPPER = re.compile(r"error: stage \S+: failed to run")
"""The workspace's line about a stage whose own process failed: the reason, if the stage gave one, stands before it."""


class CommandError(RuntimeError):
    """The command did not end by itself, or ended on an error that is not one of ours: Airflow tries again."""


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    """Exit code; 128 + n when signal n ended it."""
    last: str = ""
    """Its last line of output."""
    errors: tuple[str, ...] = ()
    """What it said after ``error: ``, first to last; each may have several lines."""

    @property
    def reason(self) -> str:
        """The first error that says why, else the last line."""
        said = [error for error in self.errors if not WRAPPER.match(f"error: {error}")]
        return (said or [*self.errors[-1:]] or [self.last])[0]

    @property
    def refused(self) -> bool:
        """Whether the command itself said why it fails; trying again would only say it again."""
        return self.code == EXIT_REFUSED and any(not WRAPPER.match(f"error: {error}") for error in self.errors)


class Listener:
    """Picks from a command's output what its Outcome needs."""

    def __init__(self) -> None:
        self._last = ""
        self._errors: list[list[str]] = []

    def hear(self, line: str) -> None:
        """Take one line, without its end."""
        if line.startswith("error: "):
            self._errors.append([line.removeprefix("error: ")])
        elif self._errors and len(self._errors[-1]) < MAX_REASON_LINES:
            self._errors[-1].append(line)
        if line.strip():
            self._last = line

    def hear_all(self, lines: Iterable[str]) -> Listener:
        """Take many lines."""
        for line in lines:
            self.hear(line)
        return self

    def outcome(self, code: int) -> Outcome:
        """What was heard, with the exit code."""
        return Outcome(code, self._last, tuple("\n".join(lines).strip() for lines in self._errors))


class Command:
    """Runs commands one after the other; `stop` ends the one that runs."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def run(self, argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], log: Any) -> Outcome:
        """Run ``argv`` in ``cwd`` and log what it prints, line by line, until it ends."""
        log.info("in %s: %s", cwd, " ".join(argv))
        listener = Listener()
        # No `with`: its end waits for the process, also when a timeout unwinds through here and `stop` comes only later.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(GUARD), *argv],
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
            errors="backslashreplace",
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            listener.hear(line.rstrip())
            log.info("%s", line.rstrip())
        return listener.outcome(_code(self._process.wait()))

    def stop(self) -> None:
        """SIGTERM to the command and all it started; the guard follows with SIGKILL."""
        if self._process is not None and self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)


def conclude(outcome: Outcome) -> None:
    """Return when the command did its work; else raise what tells Airflow to skip, to fail for good, or to try again.

    Raises:
        AirflowSkipException: it found nothing to do.
        AirflowFailException: it refused and said why; a retry would not help.
        CommandError: it was killed or crashed.
    """
    if outcome.code == 0:
        return
    if outcome.code == EXIT_SKIP:
        raise AirflowSkipException(outcome.last.removeprefix("skipped: ") or "nothing to do")
    if outcome.refused:
        raise AirflowFailException(outcome.reason)
    if outcome.code > 128:
        with suppress(ValueError):
            raise CommandError(f"ended by {signal.Signals(outcome.code - 128).name}; last line: {outcome.last}")
    raise CommandError(f"ended with exit code {outcome.code}: {outcome.reason}")


def _code(returncode: int) -> int:
    return returncode if returncode >= 0 else 128 - returncode
