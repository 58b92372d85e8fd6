"""Validation: bad rows are set aside with all their reasons, good ones never, and no landed row is lost."""

from __future__ import annotations

import csv
import dataclasses
import gzip
import io
import json
import random
import re
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from models.flights import landing
from models.flights.model import MODEL
from models.flights.reading.feed import TYPED
from models.flights.rules import broken_rules
from models.flights.schema import FEED, KEPT, ORDER, UNIQUE
from tasks import ingest, manifest, validate
from tasks.core.errors import DataError
from tasks.core.urls import url_of
from tasks.storage.files import parquet_bytes
from tests.killing import digests
from tests.makers import put_settings
from tests.tasks.conftest import INTERVAL, Place, Tables

WIND = "wind_speed is outside 0 to 200"


def typed(table: str, header: list[str], rows: list[list[str]]) -> pa.Table:
    """The rows of a landed file, typed, in their order."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows([header, *rows])
    cells, notes = ingest.parse(text.getvalue(), FEED[table], "test")
    return TYPED[table](cells, notes)


def raw_of(table: str, header: list[str], rows: list[list[str]]) -> pa.Table:
    """The raw table that ingest makes of a landed file of these rows."""
    return ingest.in_order(typed(table, header, rows), ORDER[table])


def changed(header: list[str], row: list[str], **cells: str) -> list[str]:
    return [cells.get(name, cell) for name, cell in zip(header, row, strict=True)]


@pytest.fixture(scope="module")
def flight(small: Tables) -> tuple[list[str], list[str]]:
    """Header and one good flight that arrived."""
    header, rows = small["flights"]
    return header, next(row for row in rows if row[header.index("arr_delay")] == "12")


@pytest.fixture(scope="module")
def few(small: Tables) -> Tables:
    """Forty good rows of each table."""
    chosen: Tables = {}
    for table, (header, rows) in small.items():
        good = [row for row in rows if "1048.36058" not in row]
        chosen[table] = header, good[:: len(good) // 40][:40]
    return chosen


def all_stages(place: Place, tables: Tables) -> dict[str, str]:
    place.land(tables)
    for stage in (manifest, ingest, validate):
        place.run(stage)
    return digests(place.workspace / "data")


# The real data


def test_of_a_real_month_only_the_wind_of_1048_is_quarantined(place: Place, year: Tables) -> None:
    landing.land(INTERVAL, year, landing.Store(url_of(place.landing)))
    for stage in (manifest, ingest, validate):
        place.run(stage)
    data = place.workspace / "data"
    assert json.loads((data / f"counts/{INTERVAL}.json").read_bytes()) == {
        "interval": INTERVAL,
        "flights": {"landed": 24951, "kept": 24951, "quarantined": 0},
        "weather": {"landed": 2010, "kept": 2009, "quarantined": 1},
        "reasons": {WIND: 1},
    }
    (row,) = pq.read_table(data / f"quarantine/{INTERVAL}.parquet").to_pylist()
    said = {name: value for name, value in row.items() if value is not None}
    assert said["table"] == "weather" and said["reason"] == WIND
    assert said["origin"] == "EWR" and said["wind_speed"] == "1048.36058"
    assert said["observed_at"] == "1360656000"  # 12 February, 03:00 in New York
    assert pq.read_schema(data / f"quarantine/{INTERVAL}.parquet").equals(MODEL.quarantine)
    for table, schema in KEPT.items():
        kept = pq.read_table(data / f"kept/{INTERVAL}/{table}.parquet")
        assert kept.schema.equals(schema, check_metadata=True)
    tail = pq.read_table(data / f"tail/{INTERVAL}/flights.parquet")
    kept = pq.read_table(data / f"kept/{INTERVAL}/flights.parquet")
    days = sorted(set(tail["date"].to_pylist()))
    assert [day.day for day in days] == list(range(20, 29))  # 7 trailing days, and 2 more
    assert tail.equals(kept.filter(pc.is_in(kept["date"], pa.array(days))))
    weather = pq.read_table(data / f"tail/{INTERVAL}/weather.parquet")
    assert pc.min(weather["observed_at"]).as_py() == 1361336400  # 20 February, 00:00 in New York
    assert pc.max(weather["observed_at"]).as_py() == 1362110400  # 28 February, 23:00


def test_validating_twice_gives_the_same_bytes(place: Place, small: Tables) -> None:
    first = all_stages(place, small)
    place.run(validate)
    assert digests(place.workspace / "data") == first


# Rules


@pytest.mark.parametrize(
    ("cells", "reasons"),
    [
        ({"carrier": "ual"}, ["carrier is not two letters or digits"]),
        ({"carrier": "NA"}, ["carrier is missing"]),
        ({"origin": "BOS"}, ["origin is not one of EWR, JFK, LGA"]),
        ({"dest": "QQQ"}, ["block_minutes is missing", "dest has no zone in models/flights/reading/timezones.csv",
                           "arr_delay without a departure and an arrival"]),
        ({"flight": "0"}, ["flight is outside 1 to 9999"]),
        ({"distance": "NA"}, ["distance is missing"]),
        ({"distance": "far"}, ["distance cannot be read", "distance is missing"]),
        ({"distance": "9"}, ["distance is outside 10 to 7000"]),
        ({"day": "30"}, ["date cannot be read", "date is missing"]),
        ({"month": "3"}, ["date is outside the month", "scheduled time is not at the local date, hour and minute"]),
        ({"hour": "3"}, ["scheduled time is not at the local date, hour and minute"]),
        ({"dep_delay": "-400"}, ["dep_delay is outside -180 to 2880"]),
        ({"arr_delay": "3000"}, ["arr_delay is outside -180 to 2880", "arrival and arr_delay disagree"]),
        ({"arr_delay": "200"}, ["arrival and arr_delay disagree"]),
        ({"dep_delay": "NA"}, ["arr_delay without a departure and an arrival"]),
        ({"arr_time": "NA"}, ["arr_delay without a departure and an arrival"]),
    ],
)  # fmt: skip
def test_a_flight_that_breaks_rules_is_quarantined_with_all_of_them(
    flight: tuple[list[str], list[str]], cells: dict[str, str], reasons: list[str]
) -> None:
    header, row = flight
    raw = raw_of("flights", header, [changed(header, row, **cells)])
    got = broken_rules(raw, "flights", INTERVAL)[0].split("; ")
    assert set(reasons) <= set(got), got
    # A delay changed by itself also disagrees with the clock; nothing else may be said that is not so.
    assert set(got) - set(reasons) <= {"arrival and arr_delay disagree"}


def test_a_flight_that_arrives_before_it_departs_is_quarantined(flight: tuple[list[str], list[str]]) -> None:
    header, row = flight
    departed = int(row[header.index("dep_time")])
    raw = raw_of("flights", header, [changed(header, row, dest="BOS", arr_time=str(departed - 5))])
    assert "arrival is not 15 to 1380 minutes after the departure" in broken_rules(raw, "flights", INTERVAL)[0]


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({"wind_speed": "1048.36058"}, WIND),
        ({"temp": "451"}, "temp is outside -60 to 130"),
        ({"humid": "-1"}, "humid is outside 0 to 100"),
        ({"visib": "clear"}, "visib cannot be read"),
        ({"origin": ""}, "origin is missing"),
        ({"time_hour": "NA"}, "observed_at is missing"),
        ({"time_hour": "2013-02-12T08:30:00Z"}, "observed_at is not a full hour"),
        ({"time_hour": "2013-03-01T05:00:00Z"}, "observed_at is outside the month"),
        ({"time_hour": "2013-02-01T04:00:00Z"}, "observed_at is outside the month"),
    ],
)
def test_an_observation_that_breaks_a_rule_is_quarantined(few: Tables, cells: dict[str, str], reason: str) -> None:
    header, rows = few["weather"]
    assert (
        broken_rules(raw_of("weather", header, [changed(header, rows[7], **cells)]), "weather", INTERVAL)[0] == reason
    )


@pytest.mark.parametrize("hour", ["2013-02-01T05:00:00Z", "2013-03-01T04:00:00Z"])
def test_a_month_is_a_local_month(few: Tables, hour: str) -> None:
    header, rows = few["weather"]
    assert (
        broken_rules(raw_of("weather", header, [changed(header, rows[7], time_hour=hour)]), "weather", INTERVAL)[0]
        == ""
    )


def test_unknown_weather_and_a_cancelled_flight_are_no_bad_rows(
    few: Tables, flight: tuple[list[str], list[str]]
) -> None:
    header, rows = few["weather"]
    nothing = changed(header, rows[0], **dict.fromkeys(FEED["weather"][2:], "NA"))
    assert broken_rules(raw_of("weather", header, [nothing]), "weather", INTERVAL)[0] == ""
    header, row = flight
    cancelled = changed(header, row, dep_time="NA", dep_delay="NA", arr_time="NA", arr_delay="NA", tailnum="NA")
    assert broken_rules(raw_of("flights", header, [cancelled]), "flights", INTERVAL)[0] == ""


def test_a_cell_cannot_make_up_a_reason(flight: tuple[list[str], list[str]]) -> None:
    header, row = flight
    raw = raw_of("flights", header, [changed(header, row, distance="x'; nonsense='y")])
    assert broken_rules(raw, "flights", INTERVAL)[0] == "distance cannot be read; distance is missing"


# Rows that are there twice


def test_of_identical_rows_one_is_kept(few: Tables) -> None:
    header, rows = few["flights"]
    verdict = validate.judge(raw_of("flights", header, [*rows, rows[3], rows[3]]), "flights", INTERVAL)
    assert verdict.counts == {"landed": 42, "kept": 40, "quarantined": 2}
    assert verdict.quarantined["reason"].to_pylist() == [validate.IDENTICAL] * 2
    assert verdict.kept.equals(validate.judge(raw_of("flights", header, rows), "flights", INTERVAL).kept)


def test_of_conflicting_rows_one_is_kept_whatever_their_order(few: Tables) -> None:
    header, rows = few["flights"]
    other = changed(header, rows[3], distance="999")
    for landed in ([*rows, other], [other, *rows]):
        verdict = validate.judge(raw_of("flights", header, landed), "flights", INTERVAL)
        assert verdict.counts == {"landed": 41, "kept": 40, "quarantined": 1}
        (bad,) = verdict.quarantined.to_pylist()
        assert bad["reason"] == validate.CONFLICTING
        assert (bad["distance"] == "999") == (int(rows[3][header.index("distance")]) < 999)


def test_a_bad_row_does_not_take_the_good_row_with_its_key_with_it(few: Tables) -> None:
    header, rows = few["flights"]
    bad = changed(header, rows[3], distance="-1")
    verdict = validate.judge(raw_of("flights", header, [bad, *rows]), "flights", INTERVAL)
    assert verdict.quarantined["reason"].to_pylist() == ["distance is outside 10 to 7000"]
    assert verdict.kept.num_rows == 40


# Any damage

CELL = st.one_of(
    st.sampled_from(
        ["NA", "", "-1", "0", "1", "2400", "99999", "999999999", "-999999999", "1e99", "nan", "2013-02-30"]
    ),
    st.text(max_size=12),
    st.integers().map(str),
)


@st.composite
def damages(draw: st.DrawFn) -> list[tuple[Any, ...]]:
    index = st.integers(0, 39)
    damage = st.one_of(
        st.tuples(st.just("drop"), index),
        st.tuples(st.just("double"), index),
        st.tuples(st.just("cell"), index, st.integers(0, 18), CELL),
        st.tuples(st.just("double and cell"), index, st.integers(0, 18), CELL),
        st.tuples(st.just("cut"), index, st.integers(1, 18)),
        st.tuples(st.just("lengthen"), index, CELL),
    )
    return draw(st.lists(damage, max_size=12))


def damaged(rows: list[list[str]], what: list[tuple[Any, ...]]) -> tuple[list[list[str]], set[int]]:
    """The rows after the damage, and the numbers of those that nothing happened to."""
    result: list[list[str] | None] = [list(row) for row in rows]
    added: list[list[str]] = []
    hurt = {step[1] for step in what}
    for kind, index, *rest in what:
        row = result[index]
        if row is None:
            continue
        if kind == "drop":
            result[index] = None
        elif kind == "double":
            added.append(list(row))
        elif kind == "cell":
            row[rest[0] % len(row)] = rest[1]
        elif kind == "double and cell":
            added.append(list(row))
            added[-1][rest[0] % len(row)] = rest[1]
        elif kind == "cut":
            del row[rest[0] :]
        else:
            row.append(rest[0])
    return [row for row in result if row is not None] + added, set(range(len(rows))) - hurt


@dataclasses.dataclass(frozen=True)
class Sample:
    """Forty good rows of a table, as the feed has them and as they are kept when nothing happens to them."""

    table: str
    header: list[str]
    rows: list[list[str]]
    good: list[dict[str, Any]]

    def __repr__(self) -> str:
        return self.table  # hypothesis prints what falsifies: that is the damage, not these forty rows


@pytest.fixture(scope="module", params=MODEL.tables)
def sample(request: pytest.FixtureRequest, few: Tables) -> Sample:
    table = request.param
    good = typed(table, *few[table]).drop_columns(["unreadable"]).to_pylist()
    return Sample(table, *few[table], good)


@settings(
    max_examples=20,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow],
)
@given(what=damages(), seed=st.integers(0, 2**16))
def test_whatever_lands_every_row_is_kept_or_quarantined_and_good_rows_are_kept(
    sample: Sample, what: list[tuple[Any, ...]], seed: int
) -> None:
    table, header, rows = sample.table, sample.header, sample.rows
    landed, untouched = damaged(rows, what)
    shuffled = random.Random(seed).sample(landed, len(landed))
    verdict = validate.judge(raw_of(table, header, shuffled), table, INTERVAL)
    kept, bad = verdict.kept, verdict.quarantined

    # The counts add up, and each bad row says why.
    assert kept.num_rows + bad.num_rows == verdict.landed == len(landed)
    assert all(bad["reason"].to_pylist())
    assert sum(len(rows) for rows in validate.by_reason(bad).values()) >= bad.num_rows
    # What is kept breaks no rule, and no two rows have one key.
    again = validate.judge(kept.append_column("unreadable", pa.nulls(kept.num_rows, pa.string())), table, INTERVAL)
    assert again.kept.equals(kept)
    assert len({tuple(row.values()) for row in kept.select(UNIQUE[table]).to_pylist()}) == kept.num_rows
    # Rows that nothing happened to are kept as they are, unless damage gave another row their key.
    have = {tuple(row[name] for name in UNIQUE[table]): row for row in kept.to_pylist()}
    said_twice = {tuple(map(str, row.values())) for row in bad.select(UNIQUE[table]).to_pylist()}
    for row in (sample.good[i] for i in untouched):
        key = tuple(row[name] for name in UNIQUE[table])
        assert have[key] == row or tuple(map(str, key)) in said_twice
    # The order in which rows landed does not show.
    other = validate.judge(raw_of(table, header, landed), table, INTERVAL)
    assert parquet_bytes(other.kept) == parquet_bytes(kept) and parquet_bytes(other.quarantined) == parquet_bytes(bad)


# A month that is too bad


def test_a_month_with_too_many_bad_rows_is_refused_with_rules_rows_and_where_to_look(
    place: Place, small: Tables
) -> None:
    header, rows = small["flights"]
    wrong = [changed(header, row, dep_delay="soon") if i % 10 == 0 else row for i, row in enumerate(rows)]
    place.land(small | {"flights": (header, wrong)})
    place.run(manifest)
    place.run(ingest)
    before = digests(place.workspace / "data")
    with pytest.raises(DataError) as caught:
        place.run(validate)
    said = str(caught.value)
    bad = -(-len(rows) // 10)
    assert f"more than validate.max_bad_share=0.02 is bad.\n{bad} of {len(rows):,} rows of flights (10.0%)" in said
    assert f"{bad} x dep_delay cannot be read, for example 2013-02-11" in said and "dep_delay='soon'" in said
    assert url_of(place.store / f"refused/{INTERVAL}.parquet") in said
    assert "landing.py --month 2013-02" in said and "weather (" not in said
    assert digests(place.workspace / "data") == before
    refused = pq.read_table(place.store / f"refused/{INTERVAL}.parquet")
    assert sum(refused["table"].to_pylist().count(table) for table in MODEL.tables) == bad + 1  # and the wind


@pytest.mark.parametrize("damage", ["a column of another type", "every row twice", "another month"])
def test_a_month_that_is_wrong_as_a_whole_is_refused(place: Place, small: Tables, damage: str) -> None:
    header, rows = small["flights"]
    tables, month, problem = small, INTERVAL, "2,"
    if damage == "a column of another type":
        tables = small | {"flights": (header, [changed(header, row, distance="three miles") for row in rows])}
        problem = f"{len(rows):,} x distance cannot be read"
    elif damage == "every row twice":
        tables = small | {"flights": (header, rows * 2)}
        problem = f"{len(rows):,} x {validate.IDENTICAL}"
    else:
        month, problem = "2013-03", f"{len(rows):,} x date is outside the month"
    place.land(tables, month)
    place.run(manifest, month)
    place.run(ingest, month)
    with pytest.raises(DataError, match=problem):
        place.run(validate, month)
    assert all(name.startswith("raw/") for name in place.written())


def test_the_limit_comes_from_params(place: Place, small: Tables) -> None:
    put_settings(place.workspace, [INTERVAL], validate={"max_bad_share": 0.0})
    place.land(small)
    place.run(manifest)
    place.run(ingest)
    with pytest.raises(DataError, match=f"1 of .* rows of weather .*\n  1 x {WIND}, for example EWR 1360656000"):
        place.run(validate)


def test_what_ingest_did_not_make_is_not_validated(place: Place, small: Tables) -> None:
    with pytest.raises(DataError, match=r"flights.parquet is missing; run python tasks/ingest.py"):
        place.run(validate)
    place.land(small)
    place.run(manifest)
    place.run(ingest)
    path = place.workspace / f"data/raw/{INTERVAL}/flights.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["dest"]), path)
    with pytest.raises(DataError, match="made by another version"):
        place.run(validate)


def test_a_file_that_pandas_wrote_is_refused_with_column_cell_and_way_out(place: Place, small: Tables) -> None:
    header, rows = small["flights"]
    frame = pd.DataFrame(rows, columns=header).replace("NA", None)
    for name in ("dep_delay", "arr_delay"):
        frame[name] = pd.to_numeric(frame[name])
    text = frame.to_csv(index=False, na_rep="NaN")
    place.land({"weather": small["weather"]})
    place.put("flights.csv.gz", gzip.compress(text.encode()), len(rows))
    place.run(manifest)
    place.run(ingest)
    with pytest.raises(DataError) as refused:
        place.run(validate)
    said = str(refused.value)
    assert "dep_delay cannot be read" in said and re.search(r"dep_delay='-?[0-9]+\.0'", said)
    assert "astype('Int64')" in said and "empty cell or NA" in said
