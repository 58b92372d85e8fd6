"""The features as one SQL text, generated from definitions.py, that Spark runs and any SQL engine can repeat.

How a share over the last 7 days is counted without joining flights to flights: every event enters its group's
timeline when it becomes known (+1) and leaves it when the window has passed (-1); every flight stands on the same
timeline at its T. One running sum per grouping is then the count within the window, in one pass and one sort, however
many events a window holds (a sliding RANGE frame would add up the whole window again for every row). Only integers
are summed, so neither the order of equal times nor the partitioning can change a bit; they are divided once.

The text uses what Spark SQL and DuckDB have in common, and one function that DuckDB lacks: see DUCKDB_MACROS.
"""

from __future__ import annotations

from collections.abc import Iterable

from tasks.common.months import DAY_ZERO
from tasks.common.params import FeatureParams
from tasks.flights.definitions import CATEGORIES, FEATURES, KEY, LATE_DEPARTURES, LATE_RATES, SCHEDULE, WEATHER

DUCKDB_MACROS = "CREATE OR REPLACE MACRO unix_date(d) AS (d - DATE '1970-01-01')"
"""What DuckDB has to be told before it can run ``features_sql``."""

COLUMNS = (*KEY, "as_of", "day", "late", *(f for f in FEATURES if f not in KEY))
"""Columns of the result, in order."""

_GROUPS = {by: "_".join(("by", *by)) for by in (*LATE_RATES.values(), ("origin",))}
"""Each distinct grouping and the prefix of its running sums."""

_IDENTITY = ("carrier", "flight", "origin", "dest", "hour")
"""Columns that groupings are made of; an event carries no others."""

_CARRIED = ("date", "scheduled_at", "block_minutes", "distance", "arr_delay")
"""Columns of a flight that travel along its timelines to the result."""

_SUMS = ("arrivals", "late_arrivals", "departures", "late_departures")


def features_sql(params: FeatureParams) -> str:
    """SQL of the features of every row of ``flights``, sorted by the key.

    Reads the tables ``flights`` and ``lookback`` (kept flights: one row each in the result, and only seen) and
    ``weather`` (kept weather of both); columns and units as in docs/data-contracts.md.
    """
    return f"""
WITH outcomes AS (
  SELECT {_list(_IDENTITY)}, departed_at, dep_delay, arrived_at, arr_delay FROM flights
  UNION ALL
  SELECT {_list(_IDENTITY)}, departed_at, dep_delay, arrived_at, arr_delay FROM lookback
),
timeline AS (
  SELECT 0 AS is_event, scheduled_at - minute * 60 - {params.horizon_hours * 3600} AS at,
    {_list((*_IDENTITY, *_CARRIED))}, {_list(f"0 AS {s}" for s in _SUMS)}
  FROM flights
  UNION ALL{_events("arr", 1, 0, params)}
  UNION ALL{_events("arr", -1, params.trailing_days * 86400, params)}
  UNION ALL{_events("dep", 1, 0, params)}
  UNION ALL{_events("dep", -1, params.departure_hours * 3600, params)}
),
counted AS (
  SELECT is_event, at, {_list((*_IDENTITY, *_CARRIED))},
    {_list(_running_sums(), 4)}
  FROM timeline
)
SELECT {_list((*(f"counted.{k}" for k in KEY), "at AS as_of"))},
  CAST(unix_date(date) - {_unix_date(DAY_ZERO.toordinal())} AS INT) AS day,
  CAST(CASE WHEN arr_delay >= {params.late_minutes} THEN 1 WHEN arr_delay IS NOT NULL THEN 0 END AS TINYINT) AS late,
  {_list(c for c in CATEGORIES if c not in KEY)},
  CAST(hour AS DOUBLE) AS hour,
  CAST((unix_date(date) + 3) % 7 AS DOUBLE) AS dow,
  {_list(f"CAST({c} AS DOUBLE) AS {c}" for c in SCHEDULE)},
  {_list(WEATHER)},
  {_list(_shares(), 2)}
FROM counted LEFT JOIN weather ON weather.origin = counted.origin AND weather.observed_at = counted.at
WHERE is_event = 0
ORDER BY {_list(f"counted.{k}" for k in KEY)}
"""


def _list(items: Iterable[str], indent: int | None = None) -> str:
    return (", " if indent is None else ",\n" + " " * indent).join(items)


def _unix_date(ordinal: int) -> int:
    return ordinal - 719163  # 1970-01-01, a Thursday: three days after a Monday


def _events(kind: str, sign: int, seconds: int, params: FeatureParams) -> str:
    """Arrivals or departures entering (+1) or leaving (-1, ``seconds`` later) the window.

    The running sum ends before rows of the same second that are events: so an event at T itself is not yet known, and
    one at T less the length of the window still is.
    """
    happened_at, delay, name = {
        "arr": ("arrived_at", "arr_delay", "arrivals"),
        "dep": ("departed_at", "dep_delay", "departures"),
    }[kind]
    delta = {s: "0" for s in _SUMS} | {
        name: str(sign),
        f"late_{name}": f"CASE WHEN {delay} >= {params.late_minutes} THEN {sign} ELSE 0 END",
    }
    return f"""
  SELECT 1, {happened_at} + {seconds}, {_list((*_IDENTITY, *("NULL" for _ in _CARRIED), *delta.values()))}
  FROM outcomes WHERE {happened_at} IS NOT NULL AND {delay} IS NOT NULL"""


def _running_sums() -> Iterable[str]:
    for by, prefix in _GROUPS.items():
        for name in _SUMS if by == ("origin",) else _SUMS[:2]:
            over = f"PARTITION BY {_list(by)} ORDER BY at, is_event ROWS UNBOUNDED PRECEDING"
            yield f"SUM({name}) OVER ({over}) AS {prefix}_{name}"


def _shares() -> Iterable[str]:
    counts = {name: (_GROUPS[by], "arrivals") for name, by in LATE_RATES.items()}
    counts[LATE_DEPARTURES] = (_GROUPS["origin",], "departures")
    for name, (prefix, what) in counts.items():
        late, all_ = f"{prefix}_late_{what}", f"{prefix}_{what}"
        yield f"CASE WHEN {all_} > 0 THEN CAST({late} AS DOUBLE) / CAST({all_} AS DOUBLE) END AS {name}"
