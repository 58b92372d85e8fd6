"""Columns of what lands and of what is kept: names, types, keys. The value rules are in rules.py."""

from __future__ import annotations

import pyarrow as pa

from models.flights.definitions import KEY, WEATHER
from tasks.spec import UNREADABLE

FEED: dict[str, tuple[str, ...]] = {
    "flights": (
        "year",
        "month",
        "day",
        "hour",
        "minute",
        "time_hour",
        "carrier",
        "flight",
        "origin",
        "dest",
        "distance",
        "sched_arr_time",
        "arr_time",
        "dep_delay",
        "arr_delay",
    ),
    "weather": ("origin", "time_hour", *WEATHER),
}
"""Columns of the feed that are read; others may come and go."""

NULLS = ("", "NA")
"""How the feed writes "unknown"."""

FLIGHTS = pa.schema(
    {
        "carrier": pa.string(),
        "flight": pa.int32(),
        "origin": pa.string(),
        "dest": pa.string(),
        "date": pa.date32(),
        "hour": pa.int32(),
        "minute": pa.int32(),
        "scheduled_at": pa.int64(),
        "block_minutes": pa.int32(),
        "distance": pa.int32(),
        "departed_at": pa.int64(),
        "arrived_at": pa.int64(),
        "dep_delay": pa.int32(),
        "arr_delay": pa.int32(),
    }
)
"""Kept flights; units in docs/data-contracts.md."""

OBSERVATIONS = pa.schema({"origin": pa.string(), "observed_at": pa.int64(), **dict.fromkeys(WEATHER, pa.float64())})
"""Kept weather; units in definitions.py."""

KEPT = {"flights": FLIGHTS, "weather": OBSERVATIONS}

RAW = {table: schema.append(pa.field(UNREADABLE, pa.string())) for table, schema in KEPT.items()}

ORDER = {"flights": KEY, "weather": ("origin", "observed_at")}
"""How files are sorted."""

UNIQUE = {"flights": ("date", "carrier", "flight", "origin"), "weather": ("origin", "observed_at")}
"""What at most one kept row may have in common."""
