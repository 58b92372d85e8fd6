"""Features in a real Spark: hand-made tables, an oracle that counts one by one, DuckDB, and what was not known at T."""

from __future__ import annotations

import datetime as dt
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame, SparkSession

from models.flights.definitions import FEATURES, KEY, LATE_DEPARTURES, LATE_RATES, WEATHER
from models.flights.features_sql import COLUMNS, DUCKDB_MACROS, features_sql
from models.flights.schema import FLIGHTS, OBSERVATIONS
from tasks import features
from tasks.core import results
from tasks.core.errors import ConfigError, DataError
from tasks.engines.spark import session, stop, write_single
from tasks.intervals.cadence import seen_after
from tasks.settings import params
from tasks.settings.environment import CODE
from tasks.storage import lists
from tasks.storage.artefacts import to_json
from tasks.storage.files import parquet_bytes, write_file
from tests.makers import put_settings

pytestmark = pytest.mark.slow  # a JVM starts once

HOUR, DAY = 3600, 86400
SETTINGS = params.of_model(CODE, "flights").features
MIDNIGHT = int(dt.datetime(2013, 4, 10, 4, tzinfo=dt.UTC).timestamp())
"""Local midnight of 10 April, a Wednesday."""
BY_KEY = [(column, "ascending") for column in KEY]

Row = dict[str, Any]


def flight(
    hour: int = 12, *, day: int = 0, minute: int = 0, dep: int | None = 0, arr: int | None = 0, **other: Any
) -> Row:
    """A flight on 10 April + ``day``, of an hour; ``dep`` and ``arr`` are its delays in minutes, None if it had none."""
    scheduled = MIDNIGHT + day * DAY + hour * HOUR + minute * 60
    return {
        "carrier": "AA", "flight": 1, "origin": "JFK", "dest": "BOS", "hour": hour, "minute": minute, "block_minutes": 60,
        "distance": 187, "date": dt.date(2013, 4, 10) + dt.timedelta(day), "scheduled_at": scheduled,
        "departed_at": None if dep is None else scheduled + dep * 60, "dep_delay": dep,
        "arrived_at": None if arr is None else scheduled + HOUR + arr * 60, "arr_delay": arr, **other,
    }  # fmt: skip


def observation(at: int, origin: str = "JFK", **values: float | None) -> Row:
    return {"origin": origin, "observed_at": at, **{name: values.get(name, 1.0) for name in WEATHER}}


def table(rows: Iterable[Row], schema: pa.Schema = FLIGHTS) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema)


@pytest.fixture
def spark() -> SparkSession:
    """This process's session; made anew (in the same JVM) after a test that ran a whole stage, which stops it."""
    return session("tests")


def frames(spark: SparkSession, *tables: pa.Table) -> dict[str, DataFrame]:
    return dict(zip(("flights", "lookback", "weather"), map(spark.createDataFrame, tables), strict=True))


def build(
    spark: SparkSession, flights: Iterable[Row], lookback: Iterable[Row] = (), weather: Iterable[Row] = ()
) -> pa.Table:
    """Features, sorted by the key, as the stage makes them of little data."""
    inputs = frames(spark, table(flights), table(lookback), table(weather, OBSERVATIONS))
    return features.build_features(inputs, SETTINGS, one_task=True).toArrow().sort_by(BY_KEY)


def test_rates_counted_by_hand(spark: SparkSession):
    """One flight at 12:00, so T is 09:00; who had arrived in the seven days before it?"""
    t = MIDNIGHT + 9 * HOUR
    week = 7 * DAY
    before = [
        flight(1, arrived_at=t - 1, arr_delay=15),  # the last second that counts, and just late
        flight(2, arrived_at=t, arr_delay=99),  # at T: not yet known
        flight(3, arrived_at=t - week, arr_delay=14, flight=2),  # the first second that counts, and not late
        flight(4, arrived_at=t - week - 1, arr_delay=99),
        flight(5, arrived_at=t - HOUR, arr_delay=20, origin="EWR"),
        flight(6, arrived_at=t - HOUR, arr_delay=20, carrier="UA"),
        flight(12, day=-1, arrived_at=t - HOUR, arr_delay=0, dest="LAX"),
        flight(8, arrived_at=t - HOUR, arr=None),  # diverted: landed, but never arrived as scheduled
        flight(9, dep=None, arr=None),  # cancelled
    ]
    for row in before:
        row["departed_at"] = None
    (row,) = build(spark, [flight(12)], before).to_pylist()
    assert {name: row[name] for name in LATE_RATES} == {
        "late_rate_carrier": 2 / 4,  # all of AA: the first, the third, EWR's and LAX's
        "late_rate_origin": 2 / 4,
        "late_rate_dest": 3 / 4,
        "late_rate_carrier_origin": 1 / 3,
        "late_rate_route": 2 / 3,
        "late_rate_flight": 2 / 3,  # AA 1, wherever it flies
        "late_rate_origin_hour": 0 / 1,
    }


def test_departures_counted_by_hand(spark: SparkSession):
    t, hours = MIDNIGHT + 9 * HOUR, 3 * HOUR
    before = [
        flight(1, departed_at=t - 1, dep_delay=15, arr=None),
        flight(2, departed_at=t, dep_delay=99, arr=None),
        flight(3, departed_at=t - hours, dep_delay=14, arr=None),
        flight(4, departed_at=t - hours - 1, dep_delay=99, arr=None),
        flight(5, departed_at=t - 1, dep_delay=99, arr=None, origin="EWR"),
        flight(6, departed_at=t - 1, dep_delay=0, arr=None, carrier="UA", dest="LAX"),
    ]
    (row,) = build(spark, [flight(12)], before).to_pylist()
    assert row[LATE_DEPARTURES] == 1 / 3
    assert [row[name] for name in LATE_RATES] == [None] * 7, "nobody arrived: unknown, not zero"


def test_what_is_known_ahead_and_the_weather_at_t(spark: SparkSession):
    t = MIDNIGHT + 9 * HOUR
    weather = [observation(t, temp=40.5, wind_gust=None), observation(t + HOUR), observation(t, "EWR", temp=-9.0)]
    rows = [flight(12, minute=59), flight(13, day=4)]
    first, other = build(spark, rows, weather=weather).to_pylist()
    assert (first["as_of"], first["day"], first["hour"], first["dow"]) == (t, 99, 12.0, 2.0)
    assert (first["block_minutes"], first["distance"]) == (60.0, 187.0)
    assert (first["temp"], first["wind_gust"], first["visib"]) == (40.5, None, 1.0)
    assert [other[name] for name in WEATHER] == [None] * 9, "no observation for that hour"
    assert other["dow"] == 6.0


def test_a_flight_is_seen_by_later_flights_of_its_own_interval(spark: SparkSession):
    rows = build(spark, [flight(5, arr=30), flight(20), flight(8)])
    assert rows["late_rate_flight"].to_pylist() == [None, None, 0.5], "at 20:00 both others have arrived"


def test_layout(spark: SparkSession):
    made = build(spark, [flight()])
    assert tuple(made.schema.names) == COLUMNS
    kinds = {"date": pa.date32(), "scheduled_at": pa.int64(), "carrier": pa.string(), "flight": pa.int32(),
             "origin": pa.string(), "as_of": pa.int64(), "day": pa.int32(), "dest": pa.string()}  # fmt: skip
    assert {f.name: f.type for f in made.schema} == {name: kinds.get(name, pa.float64()) for name in COLUMNS}


# --- random intervals


def some(seed: int, n: int = 150) -> tuple[list[Row], list[Row], list[Row]]:
    """Flights of five days, of the nine days before, and hourly weather with holes; few groups, so that they fill."""
    rng = random.Random(seed)

    def one(number: int, first: int, last: int) -> Row:
        delay = rng.choice([-5, 0, 14, 15, 40, 200])
        arr = rng.choice([delay, delay + 10, None]) if rng.random() < 0.95 else None
        row = flight(
            rng.randrange(5, 24), day=rng.randrange(first, last), minute=rng.choice([0, 0, 29, 59]), arr=arr,
            dep=delay if arr is not None or rng.random() < 0.5 else None, carrier=rng.choice("ABC"), flight=rng.randrange(4),
            origin=rng.choice(["EWR", "JFK"]), dest=rng.choice(["BOS", "LAX", "SFO"]),
        )  # fmt: skip
        row["block_minutes"] = number  # tells duplicates of a key apart
        return row

    interval = {tuple(r[k] for k in KEY): r for r in (one(i, 0, 5) for i in range(n))}
    weather = [
        observation(MIDNIGHT + h * HOUR, origin, temp=rng.choice([None, rng.uniform(0, 90)]))
        for h in range(-10, 5 * 24) for origin in ("EWR", "JFK") if rng.random() < 0.9
    ]  # fmt: skip
    return list(interval.values()), [one(i, -9, 0) for i in range(n)], weather


def share(events: list[Row], time: str, delay: str, start: int, end: int) -> float | None:
    known = [e for e in events if e[time] is not None and e[delay] is not None and start <= e[time] < end]
    return sum(e[delay] >= 15 for e in known) / len(known) if known else None


def test_counts_equal_those_of_an_oracle_that_looks_at_every_pair(spark: SparkSession):
    interval, before, weather = some(1)
    for row in build(spark, interval, before, weather).to_pylist():
        t, events = row["as_of"], interval + before
        source = next(r for r in interval if all(r[k] == row[k] for k in KEY))
        assert t == source["scheduled_at"] - source["minute"] * 60 - 3 * HOUR
        for name, by in LATE_RATES.items():
            alike = [e for e in events if all(e[c] == source[c] for c in by)]
            assert row[name] == share(alike, "arrived_at", "arr_delay", t - 7 * DAY, t), name
        local = [e for e in events if e["origin"] == row["origin"]]
        assert row[LATE_DEPARTURES] == share(local, "departed_at", "dep_delay", t - 3 * HOUR, t)
        seen = [w for w in weather if w["origin"] == row["origin"] and w["observed_at"] == t]
        assert row["temp"] == (seen[0]["temp"] if seen else None)


def rewritten(rows: list[Row], t: int, rng: random.Random) -> list[Row]:
    """``rows`` with all that was not known at ``t`` made up anew, and what was known left alone."""
    made = []
    for row in rows:
        new = dict(row)
        for time, delay in (("departed_at", "dep_delay"), ("arrived_at", "arr_delay")):
            if row[time] is None or row[time] >= t:
                hidden = rng.random() < 0.3
                new[time] = None if hidden else max(t, row["scheduled_at"]) + rng.randrange(3 * DAY)
                new[delay] = None if hidden else rng.randrange(-20, 300)
        made.append(new)
    return made


@pytest.mark.parametrize("seed", range(4))
def test_what_was_not_known_at_t_changes_nothing(spark: SparkSession, seed: int):
    interval, before, weather = some(seed)
    rng = random.Random(seed)
    t = MIDNIGHT + rng.randrange(6, 4 * 24) * HOUR
    known_ahead = [r for r in interval if r["scheduled_at"] - r["minute"] * 60 - 3 * HOUR <= t]
    later = [r for r in interval if r not in known_ahead]
    other = [
        *rewritten(known_ahead, t, rng),
        *rewritten(later[::2], t, rng),  # half of the later flights vanish, and others appear
        *(flight(rng.randrange(24), day=5, flight=99 + i, dep=rng.randrange(90)) for i in range(20)),
    ]
    changed_weather = [w if w["observed_at"] <= t else w | {"temp": -99.0} for w in weather]
    rng.shuffle(other)

    names = (*KEY, "as_of", *FEATURES)
    seen = [
        [tuple(row[n] for n in names) for row in made.to_pylist() if row["as_of"] <= t]
        for made in (
            build(spark, interval, before, weather),
            build(spark, other, rewritten(before, t, rng), changed_weather),
        )
    ]
    assert seen[0] == seen[1]
    assert len(seen[0]) == len(known_ahead) > 0


def test_what_was_known_at_t_does_change_something(spark: SparkSession):
    interval, before, weather = some(0)
    first = build(spark, interval, before, weather)
    t = max(first["as_of"].to_pylist())
    arrived = [r for r in interval if r["arrived_at"] is not None and r["arr_delay"] is not None and r["arrived_at"] == max(
        a["arrived_at"] for a in interval if a["arrived_at"] is not None and a["arr_delay"] is not None and a["arrived_at"] < t)]  # fmt: skip
    for row in arrived:
        row["arr_delay"] = 0 if row["arr_delay"] >= 15 else 100
    assert not build(spark, interval, before, weather).equals(first)


# --- engines, order, partitions, bytes


def test_duckdb_runs_the_same_sql_to_the_same_bytes(spark: SparkSession):
    interval, before, weather = some(2)
    connection = duckdb.connect()
    connection.execute(DUCKDB_MACROS)
    for name, rows, schema in (
        ("flights", interval, FLIGHTS),
        ("lookback", before, FLIGHTS),
        ("weather", weather, OBSERVATIONS),
    ):
        connection.register(name, table(rows, schema))
    relation = connection.sql(features_sql(SETTINGS))
    found = relation.order(", ".join(KEY)).to_arrow_table()
    assert parquet_bytes(found.combine_chunks()) == parquet_bytes(
        build(spark, interval, before, weather).combine_chunks()
    )


def test_order_partitions_and_plan_do_not_matter(spark: SparkSession, tmp_path: Path):
    interval, before, weather = some(3)
    tables = [table(interval), table(before), table(weather, OBSERVATIONS)]
    write_single(
        features.build_features(frames(spark, *tables), SETTINGS, one_task=True), KEY, tmp_path / "a", tmp_path / "t"
    )
    random.Random(3).shuffle(interval)
    spark.conf.set("spark.sql.shuffle.partitions", "3")
    spark.conf.set("spark.sql.codegen.wholeStage", "true")
    spread = {name: f.repartition(4) for name, f in frames(spark, table(interval), *tables[1:]).items()}
    write_single(features.build_features(spread, SETTINGS), KEY, tmp_path / "b", tmp_path / "t")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]
    spark.stop()


# --- the stage


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """March's tail and April, kept."""
    interval, before, weather = some(4)
    put_settings(tmp_path, ["2013-03", "2013-04"])
    early = [w for w in weather if w["observed_at"] < MIDNIGHT]
    late = [w for w in weather if w["observed_at"] >= MIDNIGHT]
    for name, flights, observed in (
        ("kept/2013-04", interval, late),
        ("tail/2013-03", before, early),
        ("kept/2013-03", before, early),
    ):
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        order = [("origin", "ascending"), ("observed_at", "ascending")]
        pq.write_table(table(flights).sort_by(BY_KEY), folder / "flights.parquet")
        pq.write_table(table(observed, OBSERVATIONS).sort_by(order), folder / "weather.parquet")
    tail = {path.relative_to(tmp_path).as_posix(): path for path in tmp_path.glob("data/tail/*/*")}
    write_file(
        tmp_path / seen_after("2013-03"), to_json({name: lists.digest(tail[name].read_bytes()) for name in tail})
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(root: Path) -> list[str]:
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())


def run(interval: str, monkeypatch: pytest.MonkeyPatch) -> bytes:
    monkeypatch.setattr(sys, "argv", ["features", "--interval", interval])
    features.main()
    return Path(f"data/features/{interval}.parquet").read_bytes()


def test_another_jvm_and_spark_submit_give_the_same_bytes_and_no_litter(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """parquet-mr's own files differ from JVM to JVM; and what is submitted keeps its master."""
    before = files(workspace)
    made = run("2013-04", monkeypatch)
    rows = pq.read_table("data/features/2013-04.parquet")
    assert rows.equals(rows.sort_by(BY_KEY)) and rows.num_rows > 100
    assert capsys.readouterr().out == f"2013-04: features of {rows.num_rows} rows, looking back on 2013-03\n"
    assert rows["late_rate_carrier"].null_count == 0, "the tail is seen by the first flights"
    assert pq.ParquetFile("data/features/2013-04.parquet").num_row_groups == 1
    Path("data/features/2013-04.parquet").write_bytes(b"older")
    left = Path("data/.features-2013-04.partial/spark")  # as of a killed run
    left.mkdir(parents=True)
    (left / "part-0.parquet").write_bytes(b"half")
    submit = Path(sys.executable).with_name("spark-submit")
    done = subprocess.run(
        [submit, "--master", "local[1]", "--conf", "spark.log.level=ERROR", CODE / "tasks/features.py", "--interval", "2013-04"],
        env=os.environ | {"PYTHONPATH": str(CODE), "PYSPARK_PYTHON": sys.executable, "PYSPARK_DRIVER_PYTHON": sys.executable},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert Path("data/features/2013-04.parquet").read_bytes() == made
    assert files(workspace) == sorted([*before, "data/features/2013-04.parquet"])


def test_several_intervals_in_one_session_are_the_same_bytes_and_one_bad_one_fails_no_other(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Flights of May that look back on April's, and an interval between them that is not there."""
    months = ["2013-03", "2013-04", "2013-05", "2013-06"]
    put_settings(tmp_path, months)
    shutil.copytree("data/kept/2013-04", "data/kept/2013-06")
    write_file(tmp_path / seen_after("2013-05"), Path(seen_after("2013-03")).read_bytes())
    write_file(tmp_path / seen_after("2013-04"), to_json({}))
    one_by_one = {month: run(month, monkeypatch) for month in ("2013-03", "2013-04", "2013-06")}
    shutil.rmtree("data/features")

    document = tmp_path / "result.json"
    monkeypatch.setenv("AIRLOOP_RESULT", str(document))
    stopped = []
    monkeypatch.setattr(features, "stop", lambda: stopped.append(stop()))
    monkeypatch.setattr(sys, "argv", ["features", *(word for month in months for word in ("--interval", month))])
    features.main()
    assert {month: Path(f"data/features/{month}.parquet").read_bytes() for month in one_by_one} == one_by_one
    result = results.read(document)
    assert result is not None and result.done() == [*one_by_one] and len(stopped) == 1
    assert "flights.parquet is missing" in result.intervals["2013-05"].reason
    assert not Path("data/features/2013-05.parquet").exists()

    monkeypatch.setattr(sys, "argv", ["features", "--interval", "2013-05", "--interval", "2013-07"])
    with pytest.raises(SystemExit) as ended:
        features.main()
    assert ended.value.code == 65, "none was made"


def test_a_tail_that_is_not_the_listed_one_is_refused(workspace: Path, monkeypatch: pytest.MonkeyPatch):
    tail = Path("data/tail/2013-03/flights.parquet")
    pq.write_table(pq.read_table(tail).slice(1), tail)
    with pytest.raises(DataError, match=r"tail/2013-03/flights.parquet is not the file that was listed"):
        run("2013-04", monkeypatch)
    tail.unlink()
    with pytest.raises(DataError, match=r"tail/2013-03/flights.parquet is not the file that was listed"):
        run("2013-04", monkeypatch)


def test_the_first_interval_looks_back_at_nothing(workspace: Path, monkeypatch: pytest.MonkeyPatch):
    made = run("2013-03", monkeypatch)
    rows = pq.read_table(pa.BufferReader(made))
    assert rows.num_rows == pq.read_metadata("data/kept/2013-03/flights.parquet").num_rows
    assert rows["late_rate_origin"].to_pylist()[0] is None


def test_an_interval_without_flights_is_an_empty_file(workspace: Path, monkeypatch: pytest.MonkeyPatch):
    pq.write_table(table([]), "data/kept/2013-04/flights.parquet")
    made = pq.read_table(pa.BufferReader(run("2013-04", monkeypatch)))
    assert made.num_rows == 0 and tuple(made.schema.names) == COLUMNS


def test_inputs_that_do_not_fit_are_refused(workspace: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ConfigError, match=r"2013-09 is not in the intervals of run.yaml"):
        run("2013-09", monkeypatch)
    path = workspace / "data/kept/2013-04/flights.parquet"
    whole = pq.read_table(path)
    pq.write_table(whole.drop_columns(["arr_delay"]).append_column("dep", whole["dep_delay"]), path)
    with pytest.raises(DataError, match=r"kept/2013-04/flights.parquet lacks arr_delay"):
        run("2013-04", monkeypatch)
    path.unlink()
    with pytest.raises(DataError, match=r"flights.parquet is missing"):
        run("2013-04", monkeypatch)
    assert not (workspace / "data/features").exists()
