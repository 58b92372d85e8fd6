"""What the look-back of an interval sees: as many intervals before it as its length needs, of any cadence."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from tasks.core.errors import DataError
from tasks.intervals import lookback
from tasks.intervals.cadence import Cadence, Daily, Hourly, Monthly, seen_after
from tasks.storage import lists
from tasks.storage.artefacts import to_json
from tasks.storage.files import write_file

HOUR, DAY = dt.timedelta(hours=1), dt.timedelta(days=1)


def chain(cadence: Cadence, first: str, last: str, reach: dt.timedelta) -> dict[str, str]:
    """What the interval after ``last`` sees, when all from ``first`` on have landed in order."""
    seen: dict[str, str] = {}
    for key in cadence.span(first, last):
        seen = lookback.extended(seen, key, {"rows.parquet": key.encode()}, cadence, reach)
    return seen


@pytest.mark.parametrize(
    ("cadence", "first", "last", "reach", "seen"),
    [
        (Monthly("America/New_York"), "2013-01", "2013-06", 9 * DAY, ["2013-06"]),
        (Monthly(), "2013-01", "2013-06", 31 * DAY, ["2013-05", "2013-06"]),
        (Daily(), "2013-02-20", "2013-03-02", 3 * DAY, ["2013-02-28", "2013-03-01", "2013-03-02"]),
        (Daily(), "2013-02-20", "2013-03-02", 3 * DAY + HOUR, ["2013-02-27", "2013-02-28", "2013-03-01", "2013-03-02"]),
        # A day of 23 hours: three days of 24 reach an hour into the day before.
        (Daily("Europe/Berlin"), "2013-03-20", "2013-03-31", 2 * DAY, ["2013-03-29", "2013-03-30", "2013-03-31"]),
        (Hourly(), "2013-04-05T06", "2013-04-05T09", 2 * HOUR, ["2013-04-05T08", "2013-04-05T09"]),
        (Hourly(), "2013-04-05T06", "2013-04-05T09", 720 * HOUR, [f"2013-04-05T{hour:02}" for hour in (6, 7, 8, 9)]),
        (Hourly(), "2013-04-05T06", "2013-04-05T09", dt.timedelta(0), []),
    ],
)  # fmt: skip
def test_as_many_intervals_as_the_reach_needs(
    cadence: Cadence, first: str, last: str, reach: dt.timedelta, seen: list[str]
) -> None:
    found = chain(cadence, first, last, reach)
    assert found == {f"data/tail/{key}/rows.parquet": lists.digest(key.encode()) for key in seen}
    assert list(found) == sorted(found)


def test_a_list_is_as_long_as_the_reach_however_long_the_history() -> None:
    short, long = (chain(Hourly(), first, "2013-04-05T09", 168 * HOUR) for first in ("2013-03-28T00", "2013-03-20T00"))
    assert len(short) == 168 and short == long


def test_what_lands_again_changes_the_lists_that_saw_it_and_no_other() -> None:
    """The chain of lists ends where the look-back does, so a correction makes stale what has seen it, and nothing else."""

    def lists_of(corrected: bytes) -> list[dict[str, str]]:
        seen: dict[str, str] = {}
        found = []
        for key in Daily().span("2013-03-01", "2013-03-10"):
            content = corrected if key == "2013-03-03" else key.encode()
            seen = lookback.extended(seen, key, {"rows.parquet": content}, Daily(), 3 * DAY)
            found.append(seen)
        return found

    before, after = lists_of(b"before"), lists_of(b"after")
    changed = [index + 1 for index in range(10) if before[index] != after[index]]
    assert changed == [3, 4, 5], "the lists for the fourth to the sixth"


def test_a_list_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = seen_after("2013-01")
    write_file(tmp_path / path, to_json({"data/tail/2013-01/rows.parquet": lists.digest(b"x")}))
    found = lists.read(path, tmp_path)
    with pytest.raises(DataError, match=r"rows.parquet is not the file that was listed"):
        lists.require(found, tmp_path)
    write_file(tmp_path / "data/tail/2013-01/rows.parquet", b"x")
    lists.require(found, tmp_path)
    write_file(tmp_path / "data/tail/2013-01/rows.parquet", b"y")
    with pytest.raises(DataError, match=r"run `airloop repro`"):
        lists.require(found, tmp_path)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"a": 1}', b"\xff"])
def test_a_damaged_list_is_refused(tmp_path: Path, content: bytes) -> None:
    write_file(tmp_path / seen_after("2013-01"), content)
    with pytest.raises(DataError, match=r"lists no files; delete it"):
        lists.read(seen_after("2013-01"), tmp_path)
    with pytest.raises(DataError, match=r"is missing"):
        lists.read(seen_after("2013-02"), tmp_path)


def test_another_dependency_lists_nothing(tmp_path: Path) -> None:
    assert lists.read("data/manifests/2013-01.json", tmp_path) == {}
