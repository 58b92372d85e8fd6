"""What a row must be to be kept."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
import pyarrow as pa

from models.castings.definitions import DAYS
from tasks.spec import UNREADABLE


def broken_rules(raw: pa.Table, table: str, day: str) -> pd.Series:
    """For each row the rules that it breaks, "; "-joined."""
    rows = raw.to_pandas()
    found = pd.Series("", index=rows.index, dtype=object)
    for reason, bad in _rules(rows, day):
        found = found.where(~bad, found + reason + "; ")
    return found.str.removesuffix("; ")


def _rules(rows: pd.DataFrame, day: str) -> Iterator[tuple[str, pd.Series]]:
    yield "a cell cannot be read", rows[UNREADABLE].notna()
    for name in ("casting", "mould", "alloy", "poured_at"):
        yield f"{name} is missing", rows[name].isna()
    poured, inspected = (
        pd.to_datetime(rows[name], unit="s", utc=True).dt.tz_convert(DAYS.zone).dt.strftime(DAYS.form)
        for name in ("poured_at", "inspected_at")
    )
    yield "poured on another day", poured.notna() & (poured != day)
    # So the look-back of a day ends in the day before.
    yield "inspected on another day", inspected.notna() & (inspected != day)
    yield "inspected before it was poured", rows["inspected_at"] < rows["poured_at"]
    yield "an outcome without an inspection", rows["defective"].notna() & rows["inspected_at"].isna()
    yield "defective is neither 0 nor 1", rows["defective"].notna() & ~rows["defective"].isin((0, 1))
    yield "melt_celsius is outside 600 to 1700", ~rows["melt_celsius"].fillna(1000).between(600, 1700)
    yield "pour_seconds is outside 1 to 120", ~rows["pour_seconds"].fillna(10).between(1, 120)
