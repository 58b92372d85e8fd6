"""The names of intervals, their order, and the moments at which they begin."""

import datetime as dt
import json
from itertools import pairwise
from pathlib import Path

import pytest

from tasks.core.errors import ConfigError
from tasks.intervals.cadence import KEY, Cadence, Calendar, Daily, Hourly, Monthly, parse, read

SPEC = {"cadence": {"kind": "daily", "zone": "Europe/Berlin"}, "first": "2024-02-28", "last": None}


@pytest.mark.parametrize(
    ("cadence", "key", "after"),
    [
        (Monthly(), "2013-12", "2014-01"),
        (Daily(), "2024-02-28", "2024-02-29"),
        (Daily(), "2023-02-28", "2023-03-01"),
        (Daily(), "2013-12-31", "2014-01-01"),
        (Hourly(), "2024-02-29T23", "2024-03-01T00"),
    ],
)
def test_the_next_interval_and_back(cadence: Cadence, key: str, after: str) -> None:
    assert cadence.shift(key, 1) == after
    assert cadence.shift(after, -1) == key
    assert cadence.span(key, after) == [key, after]
    assert cadence.span(after, key) == []


@pytest.mark.parametrize(
    ("cadence", "first", "last", "many"),
    [(Monthly(), "2012-01", "2015-12", 48), (Daily(), "2012-01-01", "2015-12-31", 1461), (Hourly(), "2024-01-01T00", "2024-12-31T23", 8784)],
)  # fmt: skip
def test_a_span_has_each_interval_once_in_the_order_of_time(cadence: Cadence, first: str, last: str, many: int) -> None:
    keys = cadence.span(first, last)
    assert len(keys) == many and keys == sorted(set(keys))
    assert all(cadence.start(one) < cadence.start(next_) for one, next_ in pairwise(keys))
    assert all(cadence.key_at(cadence.start(key)) == key for key in keys)


@pytest.mark.parametrize(
    ("key", "hours"),
    [("2024-03-30", 24), ("2024-03-31", 23), ("2024-10-27", 25)],
)
def test_a_local_day_on_which_clocks_change_is_an_hour_shorter_or_longer(key: str, hours: int) -> None:
    berlin = Daily("Europe/Berlin")
    assert berlin.start(berlin.shift(key, 1)) - berlin.start(key) == dt.timedelta(hours=hours)
    last_second = berlin.start(berlin.shift(key, 1)) - dt.timedelta(seconds=1)
    assert berlin.key_at(last_second) == key


def test_a_day_whose_midnight_does_not_exist_begins_when_it_begins() -> None:
    """In Beirut the clocks went from 00:00 to 01:00 on this day."""
    beirut = Daily("Asia/Beirut")
    assert beirut.start("2024-03-31").isoformat() == "2024-03-30T22:00:00+00:00"
    assert beirut.key_at(beirut.start("2024-03-31")) == "2024-03-31"


@pytest.mark.parametrize(
    ("cadence", "key"),
    [
        (Monthly(), "2013-13"), (Monthly(), "2013-1"), (Monthly(), "13-01"), (Monthly(), "2013-04-01"), (Monthly(), ""), (Monthly(), None),
        (Monthly(), 201304), (Daily(), "2023-02-29"), (Daily(), "2023-2-28"), (Daily(), "2023-02"), (Daily(), "2023-02-28T00"),
        (Hourly(), "2023-02-28T24"), (Hourly(), "2023-02-28 10"), (Hourly(), "2023-02-28"), (Daily(), "٢٠٢٣-02-28"),
    ],
)  # fmt: skip
def test_what_is_no_interval_is_refused_with_the_way_to_write_it(cadence: Cadence, key: object) -> None:
    with pytest.raises(
        ConfigError, match=f"interval=.* is no interval of a {cadence.kind} .* write it as {cadence.example}"
    ):
        cadence.check(key)


def test_every_kinds_example_looks_like_a_key() -> None:
    import re

    for cadence in (Monthly(), Daily(), Hourly()):
        assert cadence.check(cadence.example) == cadence.example
        assert re.fullmatch(KEY, cadence.example)


def test_a_window_looks_back_on_the_interval_before_and_its_first_on_nothing() -> None:
    assert Monthly().window(["2013-02", "2013-01", "2013-04"]) == {
        "2013-01": {"previous": "2013-01", "sees": "data/manifests/2013-01.json"},
        "2013-02": {"previous": "2013-01", "sees": "data/lists/lookback/2013-01.json"},
        "2013-04": {"previous": "2013-04", "sees": "data/manifests/2013-04.json"},
    }


def test_a_calendar_is_read_from_the_rendered_spec(tmp_path: Path) -> None:
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(SPEC))
    assert read(path) == Calendar(Daily("Europe/Berlin"), "2024-02-28", None)
    target = {"kind": "binary", "column": "x", "maturity_seconds": 86_400}
    assert parse({**SPEC, "target": target}).maturity == dt.timedelta(days=1)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"cadence": None}, "cadence=None is no object"),
        (
            {"cadence": {"kind": "yearly", "zone": "UTC"}},
            "cadence.kind='yearly' is unknown; use hourly, daily, monthly",
        ),
        ({"cadence": {"kind": "daily", "zone": "Mars"}}, "cadence.zone='Mars' is no time zone"),
        ({"cadence": {"kind": "daily", "zone": "../UTC"}}, "is no time zone"),
        ({"cadence": {"kind": "daily", "zone": "Europe"}}, "is no time zone"),
        (
            {"cadence": {"kind": "hourly", "zone": "Europe/Berlin"}},
            "one comes twice where clocks are put back; use UTC",
        ),
        ({"first": "2024-02"}, "first='2024-02' is no interval of a daily cadence"),
        ({"last": "2024-02-30"}, "last='2024-02-30' is no interval"),
        ({"last": "2024-02-27"}, "comes before first"),
        ({"target": {"maturity_seconds": -1}}, "target.maturity_seconds=-1 is no number of seconds"),
    ],
)
def test_a_calendar_that_cannot_be_names_field_value_and_way_out(fields: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse({**SPEC, **fields})


@pytest.mark.parametrize(
    ("cadence", "key", "days", "ahead", "ended"),
    [
        (Monthly(), "2013-04", 0, "2013-04", "2013-04"),
        (Monthly(), "2013-04", 1, "2013-05", "2013-03"),
        (Monthly(), "2013-04", 31, "2013-05", "2013-02"),  # March has 31 days: it ends 30 before April does
        (Daily("UTC"), "2013-04-05", 30, "2013-05-05", "2013-03-06"),
        (Daily("Europe/Berlin"), "2013-03-30", 1, "2013-04-01", "2013-03-29"),  # the day after has 23 hours
        (Hourly(), "2013-04-05T06", 1, "2013-04-06T06", "2013-04-04T06"),
    ],
)
def test_what_lands_late_reaches_ahead_and_what_is_whole_has_ended_before(
    cadence: Cadence, key: str, days: int, ahead: str, ended: str
) -> None:
    """An interval is whole in ``key`` when its own reach ends there."""
    reach = dt.timedelta(days=days)
    assert (cadence.ahead(key, reach), cadence.ended(key, reach)) == (ahead, ended)
    assert cadence.ahead(ended, reach) <= key < cadence.ahead(cadence.shift(ended, 1), reach)
