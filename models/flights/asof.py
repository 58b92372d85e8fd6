"""The landed months as the online service asks them: what was known at a moment, for any moment, in microseconds.

Every feature of definitions.py is answered from sorted arrays: a share is two binary searches in the timeline of its
group and one division of integer counts, which gives the same bits as the features stage.
"""

from __future__ import annotations

import datetime as dt
import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from models.flights.definitions import LATE_DEPARTURES, LATE_RATES, MONTHS, WEATHER
from models.flights.params import FeatureParams
from models.flights.state import FLIGHTS, OBSERVATIONS
from tasks.core.instants import iso
from tasks.spec import Known

NEW_YORK = ZoneInfo("America/New_York")
"""Local time of every origin; the feed's months and hours are in it."""

Key = tuple[Any, ...]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Flight:
    """A scheduled departure as a traveller knows it."""

    carrier: str
    flight: int
    origin: str
    dest: str
    date: dt.date
    """Local day of the scheduled departure."""
    hour: int
    minute: int
    """Local scheduled hour and minute."""
    scheduled_at: int
    """Scheduled departure, seconds since the epoch, UTC."""


class Groups:
    """Rows in the order of time, by group: ``spans[key]`` is the group's half-open range of ``times``."""

    def __init__(self, columns: Sequence[pa.Array], times: Int64) -> None:
        codes, values = _group_codes(columns)
        # By group, then time; stable, so that rows of one second keep their order and a rebuild is the same.
        self.order = np.lexsort((times, codes))
        self.times = array("q", times[self.order].tobytes())
        first = np.flatnonzero(np.diff(codes[self.order], prepend=-1))
        spans = zip(first.tolist(), [*first[1:].tolist(), len(codes)], strict=False)  # no rows: no group, and one end
        keys = zip(*(column.take(pa.array(self.order[first])).to_pylist() for column in values), strict=True)
        self.spans: dict[Key, tuple[int, int]] = dict(zip(keys, spans, strict=True))


class Shares:
    """Events of one kind, each late or not, by group."""

    def __init__(self, columns: Sequence[pa.Array], times: Int64, late: npt.NDArray[np.bool_]) -> None:
        groups = Groups(columns, times)
        self._times, self._spans = groups.times, groups.spans
        self._late = array("i", np.concatenate(([0], np.cumsum(late[groups.order]))).astype(np.int32).tobytes())

    def share(self, key: Key, start: int, end: int) -> float | None:
        """Late events / events of the group with ``start <= time < end``; None when there were none."""
        span = self._spans.get(key)
        if span is None:
            return None
        first = bisect_left(self._times, start, *span)
        last = bisect_left(self._times, end, first, span[1])
        return (self._late[last] - self._late[first]) / (last - first) if last > first else None


class Timetable:
    """The published schedule: block time and distance of each flight that has landed."""

    def __init__(self, columns: Sequence[pa.Array], flights: pa.Table) -> None:
        groups = Groups(columns, _numbers(flights["scheduled_at"]))
        self._times, self._spans = groups.times, groups.spans
        self._values = [
            array("i", _numbers(flights[column])[groups.order].astype(np.int32).tobytes())
            for column in ("block_minutes", "distance")
        ]

    def find(self, key: Key, scheduled_at: int) -> tuple[float, float, bool] | None:
        """Minutes, miles, and whether they were published for this very departure; None for a group that never flew.

        If not, they are those of the latest departure before it, or of the first when there is none before.
        """
        span = self._spans.get(key)
        if span is None:
            return None
        row = max(bisect_right(self._times, scheduled_at, *span) - 1, span[0])
        minutes, miles = (values[row] for values in self._values)
        return float(minutes), float(miles), self._times[row] == scheduled_at


class Observations:
    """Weather by origin and hour."""

    def __init__(self, weather: pa.Table) -> None:
        origins = weather["origin"].to_pylist()
        self._rows = {key: row for row, key in enumerate(zip(origins, weather["observed_at"].to_pylist(), strict=True))}
        self._values = np.column_stack(
            [pc.cast(weather[name], pa.float64()).to_numpy() for name in WEATHER]
        )  # fmt: skip

    def at(self, origin: str, hour: int) -> list[float | None] | None:
        """The observations in the order of definitions.WEATHER, None each where unreadable; None without any."""
        row = self._rows.get((origin, hour))
        if row is None:
            return None
        return [None if math.isnan(value) else value for value in self._values[row].tolist()]


class State:
    """Landed months, ready to be asked."""

    def __init__(self, tables: Mapping[str, Mapping[str, pa.Table]], params: FeatureParams) -> None:
        """``tables``: month to its state tables (models/flights/state.py); none gives a state that knows nothing."""
        self.params = params
        self.intervals = sorted(tables)
        flights = _together((tables[m]["flights"] for m in self.intervals), FLIGHTS)
        weather = _together((tables[m]["weather"] for m in self.intervals), OBSERVATIONS)
        arrived, arrived_late, arrivals = _events(flights, "arrived_at", "arr_delay", params.late_minutes)
        departed, departed_late, departures = _events(flights, "departed_at", "dep_delay", params.late_minutes)
        self._rates = {
            name: (by, Shares([arrivals[c] for c in by], arrived, arrived_late)) for name, by in LATE_RATES.items()
        }
        self._departures = Shares([departures["origin"]], departed, departed_late)
        self._flights = Timetable([flights[c] for c in ("carrier", "flight", "origin", "dest")], flights)
        self._routes = Timetable([flights[c] for c in ("origin", "dest")], flights)
        self._weather = Observations(weather)
        self._covered = _covered(self.intervals)
        self.as_of: int | None = max((int(t.max()) for t in (arrived, departed) if len(t)), default=None)
        """Time of the last event that has landed, seconds since the epoch; None when nothing has."""

    def known(self, flight: Flight) -> Known:
        """Every feature of ``flight`` as it was known at its T."""
        params = self.params
        as_of = flight.scheduled_at - flight.minute * 60 - params.horizon_hours * 3600
        reasons: list[str] = []
        minutes, miles = self._schedule(flight, reasons)
        features: dict[str, Any] = {
            "carrier": flight.carrier, "flight": flight.flight, "origin": flight.origin, "dest": flight.dest,
            "hour": flight.hour, "dow": flight.date.weekday(), "block_minutes": minutes, "distance": miles,
        }  # fmt: skip
        weather = self._weather.at(flight.origin, as_of)
        features.update(zip(WEATHER, weather or [None] * len(WEATHER), strict=True))
        week = as_of - params.trailing_days * 86400
        for name, (by, shares) in self._rates.items():
            features[name] = shares.share(tuple([features[c] for c in by]), week, as_of)
        features[LATE_DEPARTURES] = self._departures.share(
            (flight.origin,), as_of - params.departure_hours * 3600, as_of
        )
        if weather is None:
            reasons.append(f"no weather of {flight.origin} is known at {iso(as_of)}")
        if missing := self._uncovered(week, as_of):
            away = " or is not kept here" if self.intervals and missing[0] < self.intervals[-1] else ""
            reasons.append(
                f"{' and '.join(missing)} has not landed{away}, and late rates look back {params.trailing_days} days"
            )
        return Known(features, as_of, reasons)

    def _schedule(self, flight: Flight, reasons: list[str]) -> tuple[float | None, float | None]:
        route = (flight.origin, flight.dest)
        found = self._flights.find((flight.carrier, flight.flight, *route), flight.scheduled_at)
        if found and found[2]:
            return found[:2]
        name = f"{flight.carrier} {flight.flight} from {flight.origin} to {flight.dest}"
        if found:
            reasons.append(f"{name} at {iso(flight.scheduled_at)} is not in the landed schedule; its nearest is used")
            return found[:2]
        if found := self._routes.find(route, flight.scheduled_at):
            reasons.append(f"{name} is not in the landed schedule; another flight of the route is used")
            return found[:2]
        reasons.append(f"nothing is known to fly from {flight.origin} to {flight.dest}: no block time, no distance")
        return None, None

    def _uncovered(self, start: int, end: int) -> list[str]:
        """Months that [start, end) touches and that have not landed."""
        for first, last in self._covered:
            if first <= start and end <= last:
                return []
        days = (dt.datetime.fromtimestamp(t, NEW_YORK) for t in (start, end - 1))
        return [m for m in MONTHS.span(*(f"{d:%Y-%m}" for d in days)) if m not in self.intervals]


def _covered(months: Iterable[str]) -> list[tuple[int, int]]:
    """Half-open spans of time, in seconds since the epoch, that unbroken runs of ``months`` cover; sorted."""
    spans: list[tuple[int, int]] = []
    for month in months:
        start, end = (
            int(dt.datetime.combine(MONTHS.local(m), dt.time(), NEW_YORK).timestamp())
            for m in (month, MONTHS.shift(month, 1))
        )
        if spans and spans[-1][1] == start:
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((start, end))
    return spans


def _together(tables: Iterable[pa.Table], columns: Sequence[str]) -> pa.Table:
    found = [table.select(columns) for table in tables]
    if not found:
        kinds = {"carrier": pa.string(), "origin": pa.string(), "dest": pa.string()}
        return pa.table({c: pa.array([], kinds.get(c, pa.int64())) for c in columns})
    return pa.concat_tables(found).combine_chunks()


def _events(
    flights: pa.Table, time: str, delay: str, late_minutes: int
) -> tuple[Int64, npt.NDArray[np.bool_], pa.Table]:
    """Times and lateness of the flights of which both are known, and those flights."""
    happened = flights.filter(pc.and_(pc.is_valid(flights[time]), pc.is_valid(flights[delay])))
    return _numbers(happened[time]), _numbers(happened[delay]) >= late_minutes, happened


def _numbers(column: pa.ChunkedArray) -> Int64:
    return np.asarray(pc.cast(column, pa.int64()).to_numpy(), dtype=np.int64)


def _group_codes(columns: Sequence[pa.ChunkedArray]) -> tuple[Int64, list[pa.ChunkedArray]]:
    """One integer a row that is equal for equal rows of ``columns``, and the columns."""
    codes = np.zeros(len(columns[0]), dtype=np.int64)
    for column in columns:
        encoded = column.combine_chunks().dictionary_encode()
        if isinstance(encoded, pa.ChunkedArray):
            encoded = encoded.combine_chunks()
        codes = codes * max(len(encoded.dictionary), 1) + encoded.indices.to_numpy()
    return codes, list(columns)
