"""What a model's cadence means for Airflow: how its intervals are written, and the calendar that they make."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tasks.common.errors import ConfigError

if TYPE_CHECKING:
    from airloop.model import Model


@dataclass(frozen=True)
class Kind:
    """One kind of cadence."""

    cron: str
    """When an interval ends and the next one begins."""
    key: str
    """An interval's key, as strftime writes it."""
    pattern: re.Pattern[str]
    """What a key looks like."""
    example: str


KINDS = {"monthly": Kind("0 0 1 * *", "%Y-%m", re.compile(r"\d{4}-(0[1-9]|1[0-2])"), "2013-04")}
"""The kinds that there are so far."""
ZONES = ("UTC",)
"""Zones that there are so far: an interval's key is taken from its start in UTC."""


@dataclass(frozen=True)
class Cadence:
    """How often a model's data land."""

    kind: str
    zone: str

    def __post_init__(self) -> None:
        """Raise ConfigError for what is not supported."""
        for name, value, known in (("kind", self.kind, tuple(KINDS)), ("zone", self.zone, ZONES)):
            if value not in known:
                raise ConfigError(f"cadence.{name}={value!r} is not supported yet; use {' or '.join(known)}.")

    def check(self, field: str, key: object) -> str:
        """Return ``key``; ConfigError that names ``field`` unless it is the key of an interval."""
        kind = KINDS[self.kind]
        if not isinstance(key, str) or not kind.pattern.fullmatch(key):
            raise ConfigError(f"{field}={key!r} is no interval of a {self.kind} cadence; write it as {kind.example}.")
        return key


def calendar(model: Model) -> dict[str, Any]:
    """Arguments of a DAG that has one run for each interval of ``model``: timetable, first and last."""
    from airflow.sdk import CronDataIntervalTimetable

    kind = KINDS[model.cadence.kind]
    return {
        "schedule": CronDataIntervalTimetable(kind.cron, timezone=model.cadence.zone),
        "start_date": _start(kind, model.first),
        # Without an end, a DAG that is switched on runs the last interval before today.
        "end_date": _start(kind, model.last) if model.last else None,
    }


def _start(kind: Kind, key: str) -> datetime:
    return datetime.strptime(key, kind.key).replace(tzinfo=UTC)
