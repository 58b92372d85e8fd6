"""Landed cells to typed columns. A cell that cannot be read is null and named in ``unreadable``."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa

from models.castings.definitions import DAYS, MEASURED
from models.castings.schema import TABLES
from tasks.spec import UNREADABLE

EPOCH = pd.Timestamp(0, tz="UTC")


def typed(table: str, text: pd.DataFrame, notes: pd.Series) -> pa.Table:
    """The raw castings."""
    cells = text.where(text != "")
    numbers = {name: pd.to_numeric(cells[name], errors="coerce") for name in ("casting", *MEASURED, "defective")}
    times = {name: _time(cells[name]) for name in ("poured_at", "inspected_at")}
    for name, values in {**numbers, **times}.items():
        notes = notes.where(~(cells[name].notna() & values.isna()), notes + f"{name}=" + text[name].map(repr) + "; ")
    local = times["poured_at"].dt.tz_convert(DAYS.zone)
    columns = {
        **{name: _whole(numbers[name]) for name in ("casting", "defective")},
        **{name: numbers[name].astype("float64") for name in MEASURED},
        **{name: _whole((values - EPOCH) / pd.Timedelta(seconds=1)) for name, values in times.items()},
        **{name: cells[name] for name in ("mould", "alloy")},
        "date": local.dt.date.where(local.notna(), None),
        UNREADABLE: notes.str.removesuffix("; ").replace("", None),
    }
    schema = TABLES[table].raw
    return pa.table([pa.array(columns[f.name], f.type, from_pandas=True) for f in schema], schema=schema)


def _time(cells: pd.Series) -> pd.Series:
    return pd.to_datetime(cells, format="%Y-%m-%dT%H:%M:%SZ", errors="coerce", utc=True)


def _whole(numbers: pd.Series) -> pd.Series:
    return numbers.astype("Int64")
