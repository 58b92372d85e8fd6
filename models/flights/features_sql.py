"""The features as one SQL text, generated from definitions.py, that Spark runs and any SQL engine can repeat.

How a share over the last 7 days is counted without joining flights to flights: every event enters its group's
timeline when it becomes known (+1) and leaves it when the window has passed (-1); every flight is on the same
timeline at its T. One running sum per grouping is then the count within the window, in one pass and one sort, however
many events a window holds (a sliding RANGE frame would add up the whole window again for every row). Only integers
are summed, so neither the order of equal times nor the partitioning can change a bit; they are divided once.

The text uses what Spark SQL and DuckDB have in common, and one function that DuckDB lacks: see DUCKDB_MACROS.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from models.flights.definitions import CATEGORIES, FEATURES, KEY, LATE_DEPARTURES, LATE_RATES, SCHEDULE, WEATHER
from models.flights.params import FeatureParams

DUCKDB_MACROS = "CREATE OR REPLACE MACRO unix_date(d) AS (d - DATE '1970-01-01')"
"""What DuckDB has to be given before it can run ``features_sql``."""

COLUMNS = (*KEY, "as_of", "day", *(f for f in FEATURES if f not in KEY))
"""Columns of the result, in order."""

FLIGHTS = ("date", "scheduled_at", "carrier", "flight", "origin", "dest", "hour", "minute", "block_minutes", "distance",
           "departed_at", "arrived_at", "dep_delay", "arr_delay")  # fmt: skip
"""Columns read of ``flights`` and ``lookback``."""

OBSERVATIONS = ("origin", "observed_at", *WEATHER)
"""Columns read of ``weather``."""

_IDENTITY = ("carrier", "flight", "origin", "dest", "hour")
"""Columns that groupings are made of; an event carries no others."""

_CARRIED = ("date", "scheduled_at", "block_minutes", "distance")
"""Columns of a flight that travel along its timelines to the result."""

_ARRIVALS, _DEPARTURES = ("arrivals", "late_arrivals"), ("departures", "late_departures")

_ORIGIN = ("origin",)


def features_sql(params: FeatureParams, hint: str = "") -> str:
    """SQL of the features of every row of ``flights``, in no particular order.

    Reads the tables ``flights`` and ``lookback`` (kept flights: one row each in the result, and only seen) and
    ``weather`` (kept weather of both); columns and units as in docs/data-contracts.md. ``hint`` is a comment that says
    to the engine how to spread the timeline, such as Spark's ``/*+ COALESCE(1) */``.

    Departures matter to their origin only, so they leave the timeline before the other groupings sort it.
    """
    row = _list((*_IDENTITY, *_CARRIED))
    others = [by for by in LATE_RATES.values() if by != _ORIGIN]
    of_origin = [f"by_origin_{s}" for s in (*_ARRIVALS, *_DEPARTURES)]
    # Everything put into the text is a name or a number of the code.
    return f"""
WITH outcomes AS (
  SELECT {_list(_IDENTITY)}, departed_at, dep_delay, arrived_at, arr_delay FROM flights
  UNION ALL
  SELECT {_list(_IDENTITY)}, departed_at, dep_delay, arrived_at, arr_delay FROM lookback
),
scattered AS (
  SELECT 0 AS kind, scheduled_at - minute * 60 - {params.horizon_hours * 3600} AS instant,
    {row}, {_list(f"0 AS {s}" for s in (*_ARRIVALS, *_DEPARTURES))}
  FROM flights
  UNION ALL{_events(1, "arrived_at", "arr_delay", 1, 0, params)}
  UNION ALL{_events(1, "arrived_at", "arr_delay", -1, params.trailing_days * 86400, params)}
  UNION ALL{_events(2, "departed_at", "dep_delay", 1, 0, params)}
  UNION ALL{_events(2, "departed_at", "dep_delay", -1, params.departure_hours * 3600, params)}
),
timeline AS (SELECT {hint} * FROM scattered),
with_origin AS (
  SELECT kind, instant, {row}, {_list(_ARRIVALS)},
    {_list(_running_sums(_ORIGIN, (*_ARRIVALS, *_DEPARTURES)), 4)}
  FROM timeline
),
counted AS (
  SELECT kind, instant, {row}, {_list(of_origin)},
    {_list((s for by in others for s in _running_sums(by, _ARRIVALS)), 4)}
  FROM with_origin WHERE kind < 2
)
SELECT {_list((*(f"counted.{k}" for k in KEY), "instant AS as_of"))},
  CAST(unix_date(date) - {_unix_date(params.day_zero)} AS INT) AS day,
  {_list(c for c in CATEGORIES if c not in KEY)},
  CAST(hour AS DOUBLE) AS hour,
  CAST((unix_date(date) + 3) % 7 AS DOUBLE) AS dow,
  {_list(f"CAST({c} AS DOUBLE) AS {c}" for c in SCHEDULE)},
  {_list(WEATHER)},
  {_list(_shares(), 2)}
FROM counted LEFT JOIN weather ON weather.origin = counted.origin AND weather.observed_at = counted.instant
WHERE kind = 0
"""  # noqa: S608 - as said


def _list(items: Iterable[str], indent: int | None = None) -> str:
    return (", " if indent is None else ",\n" + " " * indent).join(items)


def _unix_date(day: dt.date) -> int:
    return (day - dt.date(1970, 1, 1)).days  # a Thursday: three days after a Monday


def _prefix(by: tuple[str, ...]) -> str:
    return "_".join(("by", *by))


def _events(kind: int, at: str, delay: str, sign: int, after: int, params: FeatureParams) -> str:
    """Arrivals (1) or departures (2) entering (sign 1) or leaving (-1, ``after`` seconds later) the window.

    At equal times flights (kind 0) come first: an event at T itself is not yet known, and one at T less the length of
    the window still is.
    """
    both = (str(sign), f"CASE WHEN {delay} >= {params.late_minutes} THEN {sign} ELSE 0 END")
    deltas = (*both, "0", "0") if kind == 1 else ("0", "0", *both)
    return f"""
  SELECT {kind}, {at} + {after}, {_list((*_IDENTITY, *("NULL" for _ in _CARRIED), *deltas))}
  FROM outcomes WHERE {at} IS NOT NULL AND {delay} IS NOT NULL"""  # noqa: S608 - as said above


def _running_sums(by: tuple[str, ...], counts: Iterable[str]) -> Iterable[str]:
    for count in counts:
        over = f"PARTITION BY {_list(by)} ORDER BY instant, kind ROWS UNBOUNDED PRECEDING"
        yield f"SUM({count}) OVER ({over}) AS {_prefix(by)}_{count}"


def _shares() -> Iterable[str]:
    rates = {name: (_prefix(by), _ARRIVALS) for name, by in LATE_RATES.items()}
    for name, (prefix, (all_, late)) in {**rates, LATE_DEPARTURES: (_prefix(_ORIGIN), _DEPARTURES)}.items():
        share = f"CAST({prefix}_{late} AS DOUBLE) / CAST({prefix}_{all_} AS DOUBLE)"
        yield f"CASE WHEN {prefix}_{all_} > 0 THEN {share} END AS {name}"
