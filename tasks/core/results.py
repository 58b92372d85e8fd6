"""The result document: how a command ended, for whoever started it. Standard library only, so that Airflow can read it too.

A command writes it as JSON to the file that AIRLOOP_RESULT names and ends with the exit code of its status. A process that
ends in any other way, or without a document, has crashed: that is worth another try.

    {"schema": 1, "status": "refused", "reason": "...", "payload": {}, "intervals": {"2013-04": {"status": "refused", ...}}}
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

SCHEMA = 1
RESULT_VARIABLE = "AIRLOOP_RESULT"


class Status(StrEnum):
    """How a command ended, where it ended by itself."""

    DONE = "done"
    SKIPPED = "skipped"
    """There was nothing to do."""
    WAITING = "waiting"
    """Something it needs is not there yet or does not answer; a later try may succeed."""
    REFUSED = "refused"
    """It found a mistake and says how to correct it; another try would find the same."""


EXIT_CODES = {Status.DONE: 0, Status.REFUSED: 65, Status.WAITING: 75, Status.SKIPPED: 99}
"""65 and 75 are EX_DATAERR and EX_TEMPFAIL of sysexits.h; 1 stays Python's own code for a crash."""


@dataclass(frozen=True)
class Interval:
    """What became of one interval of the span that a command was asked to work on."""

    status: Status
    reason: str = ""


@dataclass(frozen=True)
class Result:
    """One document."""

    status: Status = Status.DONE
    reason: str = ""
    """Why, in a sentence or two for people; empty where it is done."""
    payload: Mapping[str, Any] = field(default_factory=dict)
    """Names and numbers for whoever started it, never data."""
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    """Each interval of the span, where the command works interval by interval."""

    @property
    def exit_code(self) -> int:
        """The exit code that goes with it."""
        return EXIT_CODES[self.status]

    def done(self) -> list[str]:
        """Intervals that are done, in order."""
        return sorted(key for key, interval in self.intervals.items() if interval.status is Status.DONE)

    def to_dict(self) -> dict[str, Any]:
        """The document."""
        intervals = {key: asdict(interval) for key, interval in self.intervals.items()}
        document = {"status": self.status, "reason": self.reason, "payload": dict(self.payload), "intervals": intervals}
        return {"schema": SCHEMA, **document}


def parse(document: Mapping[str, Any]) -> Result:
    """Read a document.

    Raises:
        ValueError: it is not of this schema.
    """
    if document.get("schema") != SCHEMA:
        raise ValueError(f"a result document of schema {document.get('schema')!r}; this version reads {SCHEMA}")
    intervals = parse_intervals(document["intervals"])
    return Result(Status(document["status"]), document["reason"], document["payload"], intervals)


def parse_intervals(found: Mapping[str, Any]) -> dict[str, Interval]:
    """Read a document's ``intervals``."""
    return {key: Interval(Status(one["status"]), one.get("reason", "")) for key, one in found.items()}


def merge(intervals: Mapping[str, Interval], payload: Mapping[str, Any], behind: Collection[str] = ()) -> Result:
    """The result of a span: done if any interval is, so that one bad interval does not fail the others.

    Args:
        intervals: what became of each.
        payload: of the result.
        behind: those that wait for another one of the span: what became of that decides how the span ended.
    """
    statuses = {interval.status for key, interval in intervals.items() if key not in behind} or {Status.REFUSED}
    best = next(s for s in (Status.DONE, Status.WAITING, Status.REFUSED, Status.SKIPPED) if s in statuses)
    reasons = [
        interval.reason if len(intervals) == 1 else f"{key}: {interval.reason}"
        for key, interval in intervals.items()
        if interval.reason and (best is not Status.DONE or interval.status is not Status.SKIPPED)
    ]
    return Result(best, "\n".join(reasons), payload, intervals)


def read(path: Path) -> Result | None:
    """The document at ``path``; None when there is none or it is not whole."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return parse(document) if isinstance(document, dict) else None
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write(result: Result) -> None:
    """Write ``result`` to the file that AIRLOOP_RESULT names, in one step; without the variable, do nothing."""
    name = os.environ.get(RESULT_VARIABLE)
    if not name:
        return
    path = Path(name)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(json.dumps(result.to_dict(), sort_keys=True), encoding="utf-8")
    partial.replace(path)


def emit(payload: Mapping[str, Any]) -> None:
    """Report that the work is done, with its names and numbers."""
    write(Result(payload=payload))
