"""The intervals that a run has in its workspace, and what it says of one that has not landed or is stale."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

import pytest

from tasks.core.errors import ConfigError, DataError, Unavailable
from tasks.landing import landed
from tasks.running.windows import window
from tasks.settings import params, settings_files
from tasks.settings.environment import CODE

CALENDAR = settings_files.calendar_of(CODE, "flights")
GOLDEN = params.of_model(CODE, "flights").golden.intervals
FIRST = CALENDAR.first


def record(interval: str, *, used: str = "tail") -> landed.Landed:
    """A landed interval, whose features looked back on a tail with the digest ``used``; every tail has the digest "tail"."""
    previous = interval if interval == FIRST else CALENDAR.cadence.shift(interval, -1)
    lock: dict[str, Any] = {
        f"validate@{interval}": {"outs": [{"path": f"data/lists/lookback/{interval}.json", "md5": "tail"}]},
        f"features@{interval}": {"deps": [{"path": f"data/lists/lookback/{previous}.json", "md5": used}], "outs": []},
        f"labels@{interval}": {"outs": [{"path": f"data/labels/{interval}.parquet", "md5": "labels"}]},
    }
    return landed.Landed(
        interval=interval, previous=previous, run="r", manifest="m", features="f", counts={}, lock=lock, state={}
    )


def records(*names: str, stale: str = "") -> dict[str, landed.Landed]:
    return {name: record(name, used="old" if name == stale else "tail") for name in names}


FOUR = CALENDAR.cadence.span(FIRST, CALENDAR.cadence.shift(FIRST, 3))


@pytest.mark.parametrize(
    ("name", "first", "last", "found"),
    [
        ("interval", 2, 2, [2]),
        ("interval", 1, 3, [1, 2, 3]),
        ("lookback", 0, 0, [0]),  # the feed begins with it
        ("lookback", 2, 2, [1, 2]),
        ("lookback", 1, 2, [0, 1, 2]),
        ("history", 2, 2, [0, 1, 2]),
        ("history", 0, 3, [0, 1, 2, 3]),
    ],
)
def test_each_window_has_what_its_stages_read(name: str, first: int, last: int, found: list[int]) -> None:
    assert window(name, FOUR[first], FOUR[last], records(*FOUR), CALENDAR, GOLDEN) == [FOUR[index] for index in found]


def test_a_reference_has_the_golden_intervals_that_have_landed() -> None:
    golden = (FOUR[0], FOUR[3])
    assert window("reference", FOUR[2], FOUR[2], records(*FOUR[:3]), CALENDAR, golden) == [FOUR[0], FOUR[2]]
    assert window("reference", FOUR[2], FOUR[2], records(*FOUR), CALENDAR, golden) == [FOUR[0], FOUR[2], FOUR[3]]


def test_what_lands_in_the_run_itself_need_not_have_landed() -> None:
    assert window("lookback", FOUR[1], FOUR[2], records(FOUR[0]), CALENDAR, GOLDEN) == FOUR[:3]


@pytest.mark.parametrize(
    ("name", "missing"), [("interval", FOUR[2]), ("reference", FOUR[2]), ("history", FOUR[1]), ("lookback", FOUR[1])]
)
def test_an_interval_that_has_not_landed_is_waited_for_by_name(name: str, missing: str) -> None:
    there = records(*(interval for interval in FOUR[:3] if interval != missing))
    with pytest.raises(Unavailable, match=f"{missing}.*not landed") as caught:
        window(name, FOUR[2], FOUR[2], there, CALENDAR, GOLDEN)
    assert caught.value.payload == {"waits_for": missing}


@pytest.mark.parametrize("name", ["interval", "history", "reference"])
def test_a_stale_interval_is_refused_with_the_way_out(name: str) -> None:
    with pytest.raises(DataError, match=rf"features of {FOUR[2]} were built on another {FOUR[1]} .*ingest"):
        window(name, FOUR[2], FOUR[2], records(*FOUR[:3], stale=FOUR[2]), CALENDAR, GOLDEN)


def test_a_stale_interval_can_be_landed_again() -> None:
    assert window("lookback", FOUR[2], FOUR[2], records(*FOUR[:3], stale=FOUR[2]), CALENDAR, GOLDEN) == FOUR[1:3]


def test_nothing_is_waited_for_that_never_comes() -> None:
    with pytest.raises(ConfigError, match=f"before {FIRST}"):
        window("lookback", CALENDAR.cadence.shift(FIRST, -1), FIRST, {}, CALENDAR, GOLDEN)


def test_an_unknown_window_is_answered_with_those_there_are() -> None:
    with pytest.raises(
        ConfigError, match="window='week' is unknown; use one of interval, lookback, history, reference"
    ):
        window("week", FIRST, FIRST, {}, CALENDAR, GOLDEN)


def test_an_interval_of_an_older_version_has_no_list_and_has_to_be_ingested_again() -> None:
    there = records(FOUR[0])
    old = there[FOUR[0]].model_dump()
    old["lock"][f"validate@{FOUR[0]}"]["outs"][0]["path"] = f"data/tail/{FOUR[0]}"
    with pytest.raises(
        DataError, match=rf"An older version landed {FOUR[0]}.* flights.ingest .*{FIRST}.*follow by themselves"
    ):
        window("lookback", FOUR[1], FOUR[1], {FOUR[0]: landed.Landed.model_validate(old)}, CALENDAR, GOLDEN)


@pytest.mark.parametrize("name", ["history", "reference"])
def test_an_interval_of_an_older_version_has_no_labels_and_has_to_be_ingested_again(name: str) -> None:
    there = records(*FOUR)
    lock = {stage: entry for stage, entry in there[FOUR[1]].lock.items() if not stage.startswith("labels@")}
    there[FOUR[1]] = there[FOUR[1]].model_copy(update={"lock": lock})
    with pytest.raises(
        DataError, match=rf"An older version landed {FOUR[1]}.*labels.* flights.ingest .*{FIRST}.*follow by themselves"
    ):
        window(name, FOUR[1], FOUR[1], there, CALENDAR, GOLDEN)
    assert window("interval", FOUR[1], FOUR[1], there, CALENDAR, GOLDEN) == [FOUR[1]], "scoring reads no labels"


def test_a_reference_brings_the_intervals_that_its_labels_land_in() -> None:
    late = replace(CALENDAR, maturity=dt.timedelta(days=28))
    golden = (FOUR[0],)
    assert window("reference", FOUR[3], FOUR[3], records(*FOUR), late, golden) == [FOUR[0], FOUR[1], FOUR[3]]
