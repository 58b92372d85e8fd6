"""How often data land: the kinds of cadence, and the keys of their intervals. Standard library only, so that Airflow reads it too.

An interval is named by the local time at which it begins: ``2013-04``, ``2013-04-05``, ``2013-04-05T06``. Keys of one cadence sort
in the order of time.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

from tasks.core.errors import ConfigError
from tasks.storage import lists

_MONTH = "[0-9]{4}-(?:0[1-9]|1[0-2])"
_DAY = "(?:0[1-9]|[12][0-9]|3[01])"
_HOUR = "(?:[01][0-9]|2[0-3])"
KEY = f"{_MONTH}(?:-{_DAY}(?:T{_HOUR})?)?"
"""What an interval's key looks like, whatever the cadence."""


def seen_after(interval: str) -> str:
    """Path in a workspace of the list of what the interval after this one can see."""
    return f"{lists.FOLDER}/lookback/{interval}.json"


@dataclass(frozen=True)
class Cadence(ABC):
    """How often a model's data land."""

    zone: str = "UTC"
    """IANA name of the time zone that intervals begin in."""

    kind: ClassVar[str]
    """Its name in spec.json."""
    form: ClassVar[str]
    """An interval's key, as strftime writes it."""
    pattern: ClassVar[re.Pattern[str]]
    """What such a key looks like."""
    example: ClassVar[str]
    """Such a key."""
    cron: ClassVar[str]
    """When an interval ends and the next one begins, in ``zone``."""
    longest: ClassVar[dt.timedelta]
    """Length of the longest interval."""

    def __post_init__(self) -> None:
        """Raise ConfigError for a zone that does not exist."""
        try:
            ZoneInfo(self.zone)
        except (KeyError, OSError, ValueError):  # an unknown name, a folder's name, a path
            raise ConfigError(
                f"cadence.zone={self.zone!r} is no time zone; write an IANA name such as Europe/Berlin."
            ) from None

    def check(self, key: object, field: str = "interval") -> str:
        """Return ``key``; ConfigError that names ``field`` unless it is the key of an interval."""
        if isinstance(key, str) and self.pattern.fullmatch(key):
            try:
                self.local(key)
            except ValueError:
                pass  # the 30th of February
            else:
                return key
        raise ConfigError(f"{field}={key!r} is no interval of a {self.kind} cadence; write it as {self.example}.")

    def local(self, key: str) -> dt.datetime:
        """The start of an interval by the clocks of ``zone``, without a zone; ValueError when there is no such interval."""
        return dt.datetime.strptime(key, self.form)  # noqa: DTZ007 - as the docstring says

    def start(self, key: str) -> dt.datetime:
        """The moment at which an interval begins, in UTC; its end is the start of the next one."""
        return self.local(self.check(key)).replace(tzinfo=ZoneInfo(self.zone)).astimezone(dt.UTC)

    def key_at(self, instant: dt.datetime) -> str:
        """The key of the interval that ``instant``, which has a zone, lies in."""
        return instant.astimezone(ZoneInfo(self.zone)).strftime(self.form)

    def shift(self, key: str, by: int) -> str:
        """The interval ``by`` intervals after ``key`` (before it, when negative)."""
        return self._moved(self.local(self.check(key)), by).strftime(self.form)

    def back(self, key: str, reach: dt.timedelta) -> str:
        """The interval in which a look-back of this length from the start of ``key`` begins."""
        return self.key_at(self.start(key) - reach)

    def ahead(self, key: str, reach: dt.timedelta) -> str:
        """The last interval that has a moment of the time from the start of ``key`` to ``reach`` after its end."""
        return self.shift(self._first_from(self.start(self.shift(key, 1)) + reach), -1)

    def ended(self, key: str, reach: dt.timedelta) -> str:
        """The last interval that ends ``reach`` before the end of ``key``, or earlier."""
        return self.shift(self.key_at(self.start(self.shift(key, 1)) - reach), -1)

    def _first_from(self, instant: dt.datetime) -> str:
        """The first interval that begins at ``instant`` or later."""
        key = self.key_at(instant)
        return key if self.start(key) == instant else self.shift(key, 1)

    def span(self, first: str, last: str) -> list[str]:
        """All intervals from ``first`` to ``last``, both included; empty when ``last`` is before ``first``."""
        self.check(first), self.check(last)
        found = []
        at = self.local(first)
        while (key := at.strftime(self.form)) <= last:
            found.append(key)
            at = self._moved(at, 1)
        return found

    def window(self, keys: Iterable[str]) -> dict[str, dict[str, str]]:
        """The section ``intervals`` of run.yaml for these: each with the one before it, and the list of what its look-back sees.

        The first has itself for the one before it, which means: none. DVC wants a path all the same: that of its own manifest.
        """
        ordered = sorted(keys)
        known = set(ordered)
        before = {key: self.shift(key, -1) for key in ordered}
        return {
            key: {"previous": before[key], "sees": seen_after(before[key])}
            if before[key] in known
            else {"previous": key, "sees": f"data/manifests/{key}.json"}
            for key in ordered
        }

    @abstractmethod
    def _moved(self, local: dt.datetime, by: int) -> dt.datetime:
        """The local time ``by`` intervals after ``local``."""


class Hourly(Cadence):
    """An interval each hour."""

    kind = "hourly"
    form = "%Y-%m-%dT%H"
    pattern = re.compile(f"{_MONTH}-{_DAY}T{_HOUR}")
    example = "2013-04-05T06"
    cron = "0 * * * *"
    longest = dt.timedelta(hours=1)

    def __post_init__(self) -> None:
        """Raise ConfigError for another zone than UTC: where clocks are put back, an hour has the same name twice."""
        if self.zone != "UTC":
            raise ConfigError(
                f"cadence.zone={self.zone!r} cannot name hours, of which one comes twice where clocks are put back; "
                "use UTC, and take local days from a column of the data."
            )

    def _moved(self, local: dt.datetime, by: int) -> dt.datetime:
        return local + dt.timedelta(hours=by)


class Daily(Cadence):
    """An interval each day, from midnight to midnight in the zone: 23 or 25 hours long where clocks change."""

    kind = "daily"
    form = "%Y-%m-%d"
    pattern = re.compile(f"{_MONTH}-{_DAY}")
    example = "2013-04-05"
    cron = "0 0 * * *"
    longest = dt.timedelta(hours=25)

    def _moved(self, local: dt.datetime, by: int) -> dt.datetime:
        return local + dt.timedelta(days=by)


class Monthly(Cadence):
    """An interval each month, from its first midnight in the zone."""

    kind = "monthly"
    form = "%Y-%m"
    pattern = re.compile(_MONTH)
    example = "2013-04"
    cron = "0 0 1 * *"
    longest = dt.timedelta(days=31, hours=1)

    def _moved(self, local: dt.datetime, by: int) -> dt.datetime:
        index = local.year * 12 + local.month - 1 + by
        return local.replace(year=index // 12, month=index % 12 + 1)


KINDS: dict[str, type[Cadence]] = {each.kind: each for each in (Hourly, Daily, Monthly)}


@dataclass(frozen=True)
class Calendar:
    """The intervals of a model's feed."""

    cadence: Cadence
    first: str
    """Key of the first interval, whose features look back on nothing."""
    last: str | None
    """Key of the last interval; None for a feed that goes on."""
    maturity: dt.timedelta = dt.timedelta(0)
    """How long after the end of an interval the outcomes of its rows can land; zero: with the interval itself."""

    def labels_through(self, interval: str) -> str:
        """Last interval in which an outcome of a row of ``interval`` can land."""
        return self.cadence.ahead(interval, self.maturity)

    def labelled_through(self, last: str) -> str:
        """Last interval whose rows have all their outcomes when ``last`` has landed."""
        return self.cadence.ended(last, self.maturity)


def parse(spec: Any) -> Calendar:
    """The calendar in the content of a spec.json; ConfigError with field, value and way out."""
    found = spec.get("cadence")
    if not isinstance(found, dict):
        raise ConfigError(f'cadence={found!r} is no object; write {{"kind": "monthly", "zone": "UTC"}}.')
    kind, zone = found.get("kind"), found.get("zone")
    if kind not in KINDS:
        raise ConfigError(f"cadence.kind={kind!r} is unknown; use {', '.join(KINDS)}.")
    if not isinstance(zone, str):
        raise ConfigError(f"cadence.zone={zone!r} is no text; write an IANA name such as Europe/Berlin.")
    cadence = KINDS[kind](zone)
    first = cadence.check(spec.get("first"), "first")
    last = None if spec.get("last") is None else cadence.check(spec["last"], "last")
    if last is not None and last < first:
        raise ConfigError(f"last={last!r} comes before first={first!r}; exchange them, or leave last out.")
    target = spec.get("target")
    maturity = target.get("maturity_seconds", 0) if isinstance(target, dict) else 0
    if type(maturity) is not int or maturity < 0:
        raise ConfigError(f"target.maturity_seconds={maturity!r} is no number of seconds; write 0 or more.")
    return Calendar(cadence, first, last, dt.timedelta(seconds=maturity))


def read(path: Path) -> Calendar:
    """The calendar in the spec.json at ``path``; ConfigError with file, field, value and way out."""
    try:
        return parse(json.loads(path.read_bytes()))
    except (OSError, ValueError, RecursionError, AttributeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}. Write it again with `airloop render`.") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
