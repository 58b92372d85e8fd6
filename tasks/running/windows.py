"""The intervals that a run needs in its workspace, by the name of its window."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tasks.core.errors import ConfigError, DataError, Unavailable
from tasks.intervals.cadence import Calendar, seen_after
from tasks.landing import landed
from tasks.settings.environment import trigger

LOOKBACK = "lookback"
"""Name of the window of what lands in a run and looks back on what has landed."""
Intervals = landed.Records | Mapping[str, landed.Landed]
"""Records of landed intervals by key."""


class NotLanded(Unavailable):
    """An interval that the run needs has not landed; `waits_for` in the payload says which."""

    def __init__(self, message: str, interval: str) -> None:
        super().__init__(message)
        self.payload = {"waits_for": interval}


def window(
    name: str, first: str, last: str, records: Intervals, calendar: Calendar, reference: Sequence[str]
) -> list[str]:
    """Choose the intervals of a run.

    Args:
        name: the window's name in dvc.yaml or jobs.yaml.
        first: the span's first interval.
        last: the span's last interval.
        records: what has landed, by interval.
        calendar: of the model's feed.
        reference: intervals that the monitor reads beside the span, as far as they have landed.

    Returns:
        The intervals in order.

    Raises:
        ConfigError: there is no such window, or the span begins before the feed.
        NotLanded: an interval that must have landed has not.
        DataError: one is stale.
    """
    if name not in _WINDOWS:
        raise ConfigError(
            f"window={name!r} is unknown; use one of {', '.join(_WINDOWS)} in meta of dvc.yaml or jobs.yaml."
        )
    cadence = calendar.cadence
    cadence.check(first, "first"), cadence.check(last, "last")
    if first < calendar.first:
        raise ConfigError(f"{first} is before {calendar.first}, the first interval of the feed.")
    return _WINDOWS[name](first, last, records, calendar, reference)


def _interval(first: str, last: str, records: Intervals, calendar: Calendar, _: Sequence[str]) -> list[str]:
    """The span itself, landed."""
    return _landed(calendar.cadence.span(first, last), records)


def _lookback(first: str, last: str, records: Intervals, calendar: Calendar, _: Sequence[str]) -> list[str]:
    """The span, which lands in this run, and what its features look back on, which must have landed."""
    span = calendar.cadence.span(first, last)
    if first == calendar.first:
        return span
    before = calendar.cadence.shift(first, -1)
    if before not in records:
        raise NotLanded(f"{first} looks back on {before}, which has not landed yet.", before)
    if not _has_list(records[before]):
        raise DataError(
            f"An older version landed {before}, without the list of what {first} sees of it. Take in the feed's first interval "
            f"again, {trigger('ingest', calendar.first)}; those after it follow by themselves."
        )
    return [before, *span]


def _has_list(record: landed.Landed) -> bool:
    made = record.lock.get(f"validate@{record.interval}", {}).get("outs", [])
    return any(out["path"] == seen_after(record.interval) for out in made)


def _history(_: str, last: str, records: Intervals, calendar: Calendar, _reference: Sequence[str]) -> list[str]:
    """Everything from the feed's first interval to the span's last, landed."""
    return _labelled(_landed(calendar.cadence.span(calendar.first, last), records), records, calendar)


def _with_reference(
    first: str, last: str, records: Intervals, calendar: Calendar, reference: Sequence[str]
) -> list[str]:
    """The span, landed, and those of ``reference`` that have landed, each with the intervals that its labels land in."""
    span = calendar.cadence.span(first, last)
    about = [*(key for key in reference if key in records), *span]
    labels = (calendar.cadence.span(key, min(last, calendar.labels_through(key))) for key in about)
    wanted = {key for keys in labels for key in keys}
    return _labelled(_landed(sorted({*about, *wanted}), records), records, calendar)


def _labelled(intervals: list[str], records: Intervals, calendar: Calendar) -> list[str]:
    landed.require_labels(records, intervals, calendar.first)
    return intervals


def _landed(intervals: list[str], records: Intervals) -> list[str]:
    missing = next((interval for interval in intervals if interval not in records), None)
    if missing is not None:
        raise NotLanded(f"{missing} has not landed yet. {landed.how_to_land(missing)}", missing)
    landed.require_fresh(records, intervals)
    return intervals


_WINDOWS: Mapping[str, Callable[[str, str, Intervals, Calendar, Sequence[str]], list[str]]] = {
    "interval": _interval,
    LOOKBACK: _lookback,
    "history": _history,
    "reference": _with_reference,
}
