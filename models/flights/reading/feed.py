"""The feed's text cells to typed columns. A cell that cannot be typed becomes null and is named in ``unreadable``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import pandas as pd
import pyarrow as pa

from models.flights.definitions import WEATHER
from models.flights.reading.clock import minutes_until_at, zones
from models.flights.schema import NULLS, RAW
from tasks.spec import UNREADABLE

_WHOLE = r"[+-]?[0-9]{1,9}"  # nine digits always fit int32
_DECIMAL = r"[+-]?[0-9]{1,15}(?:\.[0-9]{0,20})?(?:[eE][+-]?[0-9]{1,2})?"  # R writes a thousand as 1e3
_CLOCK = r"(?:[01]?[0-9]|2[0-3])[0-5][0-9]|[0-5]?[0-9]|2400"
_INSTANT = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z"
_SHOWN = 40  # characters of a bad cell that are kept


class Cells:
    """The text cells of one landed table, typed column by column; remembers what it could not read."""

    def __init__(self, text: pd.DataFrame, notes: pd.Series) -> None:
        """``notes``: what is wrong with a row as a whole, "" for nothing; same index as ``text``."""
        self._text = text
        self._notes = notes.copy()

    def words(self, name: str) -> pd.Series:
        """Column ``name`` as it is, None where the feed says unknown."""
        cells = self._text[name]
        return _none_where(cells, cells.isin(NULLS))

    def whole(self, name: str) -> pd.Series:
        """Column ``name`` as Int64."""
        return self._typed(name, _WHOLE, int, "Int64")

    def decimal(self, name: str) -> pd.Series:
        """Column ``name`` as Float64, each the double nearest to its decimal text."""
        return self._typed(name, _DECIMAL, float, "Float64")

    def clock(self, name: str) -> pd.Series:
        """Column ``name``, HHMM on a wall clock without leading zeros, as minutes of the day; 2400 is 1440."""
        return self._typed(name, _CLOCK, lambda cell: int(cell) // 100 * 60 + int(cell) % 100, "Int64")

    def instant(self, name: str) -> pd.Series:
        """Column ``name``, an ISO time in UTC, as seconds since the epoch (Int64)."""
        return self._parsed(name, self._text[name], _INSTANT, "%Y-%m-%dT%H:%M:%SZ")

    def day(self, name: str, year: str, month: str, day: str) -> pd.Series:
        """Three columns as one day, in seconds from the epoch to its midnight UTC (Int64)."""
        text = self._text[year] + "-" + self._text[month].str.zfill(2) + "-" + self._text[day].str.zfill(2)
        return self._parsed(name, text, "[0-9]{4}-[0-9]{2}-[0-9]{2}", "%Y-%m-%d")

    def note(self, rows: pd.Series, name: str, cells: pd.Series) -> None:
        """Remember that in these rows the cell of ``name`` cannot be used."""
        shown = cells[rows].map(lambda cell: f"{name}={cell[:_SHOWN]!r}; ")
        self._notes[rows] += shown

    def unreadable(self) -> pd.Series:
        """What could not be read of each row, None where all could."""
        text = self._notes.str.removesuffix("; ")
        return _none_where(text, text == "")

    def _typed(
        self, name: str, pattern: str, convert: Callable[[str], float], dtype: Literal["Int64", "Float64"]
    ) -> pd.Series:
        cells = self._text[name]
        known = ~cells.isin(NULLS)
        good = known & cells.str.fullmatch(pattern)
        self.note(known & ~good, name, cells)
        values = [convert(cell) if readable else pd.NA for cell, readable in zip(cells, good, strict=True)]
        return pd.Series(values, index=cells.index, dtype=dtype)

    def _parsed(self, name: str, cells: pd.Series, pattern: str, style: str) -> pd.Series:
        known = ~cells.isin(NULLS)
        good = known & cells.str.fullmatch(pattern)
        times = pd.to_datetime(cells.where(good), format=style, errors="coerce")
        self.note(known & times.isna(), name, cells)
        result = pd.Series(pd.NA, index=cells.index, dtype="Int64")
        result[times.notna()] = times[times.notna()].to_numpy("datetime64[s]").astype("int64")
        return result


def flights(text: pd.DataFrame, notes: pd.Series) -> pa.Table:
    """Raw flights (schema RAW) from the feed's cells, in the feed's order.

    An arrival's day is not in the feed: it is the first time after the departure that the destination's clock shows
    ``arr_time``. Where a destination's zone is not known, neither scheduled block nor arrival can be: the row is
    marked, so that one line in timezones.csv brings all of them in, instead of guessed times into the features.
    """
    cells = Cells(text, notes)
    scheduled_at = cells.instant("time_hour") + (minute := cells.whole("minute")) * 60
    dep_delay = cells.whole("dep_delay")
    departed_at = scheduled_at + dep_delay * 60
    dest = cells.words("dest")
    cells.note(dest.notna() & ~dest.isin(zones()), "zone of dest", text["dest"])
    columns = {
        "carrier": cells.words("carrier"),
        "flight": cells.whole("flight"),
        "origin": cells.words("origin"),
        "dest": dest,
        "date": cells.day("date", "year", "month", "day") // 86400,
        "hour": cells.whole("hour"),
        "minute": minute,
        "scheduled_at": scheduled_at,
        "block_minutes": minutes_until_at(cells.clock("sched_arr_time"), scheduled_at, dest),
        "distance": cells.whole("distance"),
        "departed_at": departed_at,
        "arrived_at": departed_at + minutes_until_at(cells.clock("arr_time"), departed_at, dest) * 60,
        "dep_delay": dep_delay,
        "arr_delay": cells.whole("arr_delay"),
    }
    return _table("flights", columns, cells)


def weather(text: pd.DataFrame, notes: pd.Series) -> pa.Table:
    """Raw weather (schema RAW) from the feed's cells, in the feed's order."""
    cells = Cells(text, notes)
    columns = {"origin": cells.words("origin"), "observed_at": cells.instant("time_hour")}
    return _table("weather", columns | {name: cells.decimal(name) for name in WEATHER}, cells)


TYPED: dict[str, Callable[[pd.DataFrame, pd.Series], pa.Table]] = {"flights": flights, "weather": weather}
"""Table to what types it."""


def typed(table: str, text: pd.DataFrame, notes: pd.Series) -> pa.Table:
    """The raw table of that name from its landed cells."""
    return TYPED[table](text, notes)


def _none_where(cells: pd.Series, absent: pd.Series) -> pd.Series:
    result = cells.astype(object)
    result[absent] = None
    return result


def _table(name: str, columns: dict[str, pd.Series], cells: Cells) -> pa.Table:
    columns = columns | {UNREADABLE: cells.unreadable()}
    arrays = [_array(columns[field.name], field.type) for field in RAW[name]]
    return pa.Table.from_arrays(arrays, schema=RAW[name])


def _array(column: pd.Series, kind: pa.DataType) -> pa.Array:
    if pa.types.is_date32(kind):  # days since the epoch, as the integers that a date32 is
        return pa.array(column, pa.int32(), from_pandas=True).cast(kind)
    return pa.array(column, kind, from_pandas=True)
