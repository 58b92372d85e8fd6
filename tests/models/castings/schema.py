"""Columns of what lands and of what is kept."""

from __future__ import annotations

import pyarrow as pa

from tasks.spec import Table

TABLES = {
    "castings": Table(
        feed=("casting", "mould", "alloy", "poured_at", "melt_celsius", "pour_seconds", "inspected_at", "defective"),
        kept=pa.schema({
            "casting": pa.int64(),
            "mould": pa.string(),
            "alloy": pa.string(),
            "date": pa.date32(),
            "poured_at": pa.int64(),
            "melt_celsius": pa.float64(),
            "pour_seconds": pa.float64(),
            "inspected_at": pa.int64(),
            "defective": pa.int8(),
        }),
        order=("date", "poured_at", "casting"),
        unique=("casting",),
    )
}  # fmt: skip
"""Times are seconds since the epoch; ``date`` is the foundry's, of the pour."""
