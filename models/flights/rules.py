"""Value rules of what lands, as pandera schemas: what a row must be to be kept. Each rule's text is its reason.

The limits are far outside what 2013 holds (measured: block 50-700 minutes, delays -86 to 1301, gate to gate 33-1225)
and inside what is impossible: a rule that quarantines good rows costs more than a bad row.
"""

from __future__ import annotations

import re
import warnings
from collections import defaultdict
from collections.abc import Callable

import numpy as np
import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa

from models.flights.definitions import WEATHER
from models.flights.reading.clock import FEED_ZONE, PLAUSIBLE, local_minutes, month_days
from models.flights.schema import FEED
from tasks.spec import UNREADABLE

ORIGINS = ("EWR", "JFK", "LGA")
"""The feed is New York's."""

_LIMITS: dict[str, tuple[float, float]] = {
    "flight": (1, 9999),
    "hour": (0, 23),
    "minute": (0, 59),
    "block_minutes": (15, 1200),
    "distance": (10, 7000),
    "dep_delay": (-180, 2880),
    "arr_delay": (-180, 2880),
    "temp": (-60, 130),
    "dewp": (-80, 100),
    "humid": (0, 100),
    "wind_dir": (0, 360),
    "wind_speed": (0, 200),
    "wind_gust": (0, 250),
    "precip": (0, 15),
    "pressure": (850, 1100),
    "visib": (0, 100),
}
"""Lowest and highest value, both allowed; of the weather all are beyond any record at these airports."""

_MAY_BE_NULL = ("dep_delay", "arr_delay", *WEATHER)

_SHORTEST, _LONGEST = 15, 1380
"""Gate to gate, minutes. Clocks carry no day, so an arrival up to an hour before the departure looks like 23 to 24 h."""

_CLOCK_TOLERANCE = 60
"""Minutes between an arrival by the clock and by its delay: on the night clocks are put back, an hour comes twice."""


def frame(raw: pa.Table) -> pd.DataFrame:
    """A raw table as the schemas expect it: integers that can be null, and ``date`` in days since the epoch."""
    if "date" in raw.column_names:
        raw = raw.set_column(raw.column_names.index("date"), "date", raw["date"].cast(pa.int32()))
    rows: pd.DataFrame = raw.to_pandas(types_mapper={pa.int32(): pd.Int32Dtype(), pa.int64(): pd.Int64Dtype()}.get)
    return rows


def flights_schema(month: str) -> pandera.DataFrameSchema:
    """What a flight of ``month`` must be."""
    low, high = month_days(month)
    numbers = ("flight", "hour", "minute", "block_minutes", "distance", "dep_delay", "arr_delay")
    return pandera.DataFrameSchema(
        {
            "carrier": _text("[0-9A-Z]{2}", "carrier is not two letters or digits"),
            "origin": _origin(),
            "dest": _text("[A-Z]{3}", "dest is not three letters"),
            "date": pandera.Column("Int32", pandera.Check.in_range(low, high, error="date is outside the month")),
            "scheduled_at": pandera.Column("Int64"),
            **{name: _number(name, "Int32") for name in numbers},
        },
        checks=[
            pandera.Check(lambda rows: rows.dest != rows.origin, error="dest is origin"),
            pandera.Check(_at_local_time, error="scheduled time is not at the local date, hour and minute"),
            pandera.Check(_arrived_if_delayed, error="arr_delay without a departure and an arrival"),
            pandera.Check(
                _flies_for_a_while, error=f"arrival is not {_SHORTEST} to {_LONGEST} minutes after the departure"
            ),
            pandera.Check(_arrives_as_delayed, error="arrival and arr_delay disagree"),
        ],
    )


def weather_schema(month: str) -> pandera.DataFrameSchema:
    """What an observation of ``month`` must be."""
    low, high = month_days(month)

    def in_month(rows: pd.DataFrame) -> pd.Series:
        day = _local(rows.observed_at) // 1440
        return _unless_null(rows.observed_at, (day >= low) & (day <= high))

    return pandera.DataFrameSchema(
        {
            "origin": _origin(),
            "observed_at": pandera.Column(
                "Int64", pandera.Check(lambda at: at % 3600 == 0, error="observed_at is not a full hour")
            ),
            **{name: _number(name, "float64") for name in WEATHER},
        },
        checks=[pandera.Check(in_month, error="observed_at is outside the month")],
    )


SCHEMAS: dict[str, Callable[[str], pandera.DataFrameSchema]] = {"flights": flights_schema, "weather": weather_schema}
"""Table to its schema for a month."""


def broken_rules(raw: pa.Table, table: str, month: str) -> pd.Series:
    """For each row of a raw table the rules it breaks, "; "-joined and sorted; "" for a good row."""
    rows = frame(raw)
    found: defaultdict[int, set[str]] = defaultdict(set)
    for row, reason in (*_unreadable(rows[UNREADABLE]), *_failures(rows, SCHEMAS[table](month))):
        found[row].add(reason)
    return pd.Series(["; ".join(sorted(found.get(row, ()))) for row in rows.index], dtype=object)


def _failures(rows: pd.DataFrame, schema: pandera.DataFrameSchema) -> list[tuple[int, str]]:
    """Each row that breaks a rule, with the rule."""
    try:
        with warnings.catch_warnings():
            # pandera joins its reports in a way that pandas 3 will type otherwise; their cells' types are not read here.
            warnings.simplefilter("ignore", FutureWarning)
            schema.validate(rows, lazy=True)
    except pandera.errors.SchemaErrors as error:
        cases = error.failure_cases
        if cases["index"].isna().any():  # of the table as a whole: its columns are not RAW's, which is the code's fault
            raise
        missing = cases.column.astype(str) + " is missing"
        reasons = cases.check.where(cases.check != "not_nullable", missing)
        return list(zip(cases["index"].astype("int64"), reasons, strict=True))
    return []


def _unreadable(notes: pd.Series) -> list[tuple[int, str]]:
    """Each row with a cell that could not be typed, with the column: its name, not the cell, is the rule."""
    columns = {"cells", "date", "zone of dest", *FEED["flights"], *FEED["weather"]}
    return [
        (
            row,
            "dest has no zone in models/flights/reading/timezones.csv"
            if name == "zone of dest"
            else f"{name} cannot be read",
        )
        for row, note in enumerate(notes)
        for name in re.findall(r"(?:^|; )([a-z_ ]+)=['\"]", note or "")
        if name in columns
    ]


def _text(pattern: str, reason: str) -> pandera.Column:
    return pandera.Column(object, pandera.Check(lambda cells: cells.str.fullmatch(pattern), error=reason))


def _origin() -> pandera.Column:
    return pandera.Column(object, pandera.Check.isin(ORIGINS, error=f"origin is not one of {', '.join(ORIGINS)}"))


def _number(name: str, dtype: str) -> pandera.Column:
    low, high = _LIMITS[name]
    limits = pandera.Check.in_range(low, high, error=f"{name} is outside {low:g} to {high:g}")
    return pandera.Column(dtype, limits, nullable=name in _MAY_BE_NULL)


def _unless_null(values: pd.Series, holds: pd.Series) -> pd.Series:
    """``holds``, and true where there is nothing to judge: that it is missing is another rule's matter."""
    return (holds | values.isna()).fillna(True).astype(bool)


def _local(at: pd.Series) -> pd.Series:
    """Minutes since the epoch on New York's clocks; -1 for what no clock showed."""
    known = at.between(*PLAUSIBLE).fillna(False).astype(bool)
    result = pd.Series(-1, index=at.index, dtype="int64")
    result[known] = local_minutes(at[known].to_numpy(np.int64), FEED_ZONE)
    return result


def _at_local_time(rows: pd.DataFrame) -> pd.Series:
    said = rows.date * 1440 + rows.hour * 60 + rows.minute
    return _unless_null(said + rows.scheduled_at, said == _local(rows.scheduled_at))


def _arrived_if_delayed(rows: pd.DataFrame) -> pd.Series:
    return rows.arr_delay.isna() | (rows.departed_at.notna() & rows.arrived_at.notna())


def _flies_for_a_while(rows: pd.DataFrame) -> pd.Series:
    minutes = (rows.arrived_at - rows.departed_at) // 60
    return _unless_null(minutes, minutes.between(_SHORTEST, _LONGEST))


def _arrives_as_delayed(rows: pd.DataFrame) -> pd.Series:
    minutes = (rows.arrived_at - rows.scheduled_at) // 60 - rows.block_minutes - rows.arr_delay
    return _unless_null(minutes, minutes.abs() <= _CLOCK_TOLERANCE)
