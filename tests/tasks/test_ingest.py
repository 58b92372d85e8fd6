"""Ingest: verified bytes to typed rows; nothing of a damaged landing gets through unnoticed."""

from __future__ import annotations

import dataclasses
import datetime as dt
import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from models.flights import landing
from models.flights.model import MODEL
from models.flights.reading.clock import minutes_until, minutes_until_at, zones
from models.flights.reading.feed import Cells, flights, weather
from models.flights.schema import FEED, RAW
from tasks import ingest, manifest, spec, validate
from tasks.core.errors import DataError, Unavailable
from tasks.storage.artefacts import Store
from tests.killing import digests
from tests.tasks.conftest import INTERVAL, Place, Tables


def text_of(table: str, tables: Tables) -> tuple[pd.DataFrame, pd.Series]:
    header, rows = tables[table]
    frame = pd.DataFrame(rows, columns=header, dtype=object)[list(FEED[table])]
    return frame, pd.Series("", index=frame.index, dtype=object)


def seconds(*when: int, zone: str = "UTC") -> int:
    return int(dt.datetime(*when, tzinfo=ZoneInfo(zone)).timestamp())  # type: ignore[arg-type, misc]  # year, interval, ...


# Bytes


def test_an_interval_ingested_twice_has_the_same_bytes_whatever_the_order_of_the_rows(
    place: Place, small: Tables
) -> None:
    place.land(small)
    place.run(manifest)
    place.run(ingest)
    first = digests(place.workspace / "data/raw")
    assert sorted(first) == [f"{INTERVAL}/flights.parquet", f"{INTERVAL}/weather.parquet"]
    place.land({table: (header, rows[::-1]) for table, (header, rows) in small.items()})
    place.run(manifest)
    place.run(ingest)
    assert digests(place.workspace / "data/raw") == first


def test_columns_types_and_order_are_the_contracts(place: Place, small: Tables) -> None:
    place.land(small)
    place.run(manifest)
    place.run(ingest)
    for table, schema in RAW.items():
        read = pq.read_table(place.workspace / f"data/raw/{INTERVAL}/{table}.parquet")
        assert read.schema.equals(schema, check_metadata=True)
        assert read.num_rows == len(small[table][1])
        key = (
            ("date", "scheduled_at", "carrier", "flight", "origin") if table == "flights" else ("origin", "observed_at")
        )
        assert read.equals(read.sort_by([(name, "ascending") for name in key]))
        assert read["unreadable"].null_count == read.num_rows


# Times


def test_on_a_whole_interval_with_a_clock_change_the_arrival_agrees_with_the_feeds_own_delay(year: Tables) -> None:
    """Two independent columns of the feed: the wall clock at the destination, and the delay in minutes."""
    header, rows = year["flights"]
    march = landing.monthly(header, rows, "2013-03", landing.ORDER["flights"])
    raw = flights(*text_of("flights", {"flights": (header, march)})).to_pandas()
    known = raw[raw.arr_delay.notna()]
    late = (known.arrived_at - known.scheduled_at) / 60 - known.block_minutes
    assert len(known) == 27902
    assert (late == known.arr_delay).all()
    air_time = pd.to_numeric(pd.Series([row[header.index("air_time")] for row in march]), errors="coerce")[known.index]
    taxiing = (known.arrived_at - known.departed_at) / 60 - air_time
    assert taxiing.between(5, 240).all()


@pytest.mark.parametrize(
    ("clock", "start", "zone", "expected"),
    [
        ((8, 30), seconds(2013, 7, 1, 5, 17, zone="America/New_York"), "America/Chicago", 253),
        ((0, 5), seconds(2013, 7, 1, 23, 50, zone="America/New_York"), "America/New_York", 15),
        ((24, 0), seconds(2013, 7, 1, 21, 0, zone="America/New_York"), "America/New_York", 180),
        ((15, 20), seconds(2013, 1, 5, 9, 0, zone="America/New_York"), "Pacific/Honolulu", 680),
        ((14, 0), seconds(2013, 7, 1, 9, 0, zone="America/New_York"), "America/Puerto_Rico", 300),
        # Clocks are put forward while it flies: 01:50 EST, then 03:20 EDT half an hour later.
        ((3, 20), seconds(2013, 3, 10, 6, 50), "America/New_York", 30),
        # 02:20 never was that night: the clock it is from had not been put forward.
        ((2, 20), seconds(2013, 3, 10, 6, 50), "America/New_York", 30),
        ((2, 20), seconds(2013, 3, 10, 5, 50), "America/New_York", 90),
        # Clocks are put back while it flies: 01:50 EDT, then 01:10 EST twenty minutes later.
        ((1, 10), seconds(2013, 11, 3, 5, 50), "America/New_York", 20),
        ((2, 30), seconds(2013, 11, 3, 4, 30), "America/New_York", 180),
        # 01:30 comes twice: the first.
        ((1, 30), seconds(2013, 11, 3, 4, 50), "America/New_York", 40),
        ((5, 0), seconds(2013, 11, 3, 1, 0, zone="America/New_York"), "America/Los_Angeles", 480),
    ],
)
def test_an_arrival_is_when_the_destinations_clock_next_shows_it(
    clock: tuple[int, int], start: int, zone: str, expected: int
) -> None:
    got = minutes_until(np.array([clock[0] * 60 + clock[1]]), np.array([start]), zone)
    assert got.tolist() == [expected]


def test_no_time_is_guessed_where_the_zone_or_a_plausible_start_is_missing() -> None:
    clock = pd.Series([600, 600, 600, pd.NA, 600], dtype="Int64")
    start = pd.Series([seconds(2013, 5, 1, 12), seconds(2013, 5, 1, 12), -(10**11), 0, pd.NA], dtype="Int64")
    got = minutes_until_at(clock, start, pd.Series(["LAX", "???", "LAX", "LAX", "LAX"]))
    assert got.isna().tolist() == [False, True, True, True, True]


def test_every_destination_of_the_year_has_a_zone(year: Tables) -> None:
    header, rows = year["flights"]
    assert {row[header.index("dest")] for row in rows} <= zones().keys()
    assert {zones()[airport] for airport in ("BQN", "PSE", "SJU", "STT")} == {"America/Puerto_Rico"}


# Cells


@pytest.mark.parametrize(
    ("kind", "cell", "value"),
    [
        ("whole", "12", 12), ("whole", "-7", -7), ("whole", "NA", None), ("whole", "", None),
        ("decimal", "1048.36058", 1048.36058), ("decimal", "1e3", 1000.0), ("decimal", "0", 0.0),
        ("clock", "517", 317), ("clock", "2400", 1440), ("clock", "5", 5), ("clock", "0005", 5), ("clock", "2359", 1439),
        ("instant", "2013-02-12T08:00:00Z", seconds(2013, 2, 12, 8)),
        ("words", "UA", "UA"), ("words", "NA", None),
    ],
)  # fmt: skip
def test_a_cell_is_typed(kind: str, cell: str, value: object) -> None:
    cells = Cells(pd.DataFrame({"x": [cell]}, dtype=object), pd.Series([""], dtype=object))
    got = getattr(cells, kind)("x")[0]
    assert (None if got is pd.NA else got) == value
    assert cells.unreadable()[0] is None


@pytest.mark.parametrize(
    ("kind", "cell"),
    [
        ("whole", "abc"), ("whole", "1.5"), ("whole", " 1"), ("whole", "99999999999"), ("whole", "nan"), ("whole", "٣"),
        ("decimal", "inf"), ("decimal", "1,5"), ("decimal", "0x10"), ("decimal", "1_0"), ("decimal", "."),
        ("clock", "2401"), ("clock", "1260"), ("clock", "60"), ("clock", "-5"), ("clock", "12:30"),
        ("instant", "2013-02-30T08:00:00Z"), ("instant", "2013-02-12 08:00:00"), ("instant", "9999-01-01T00:00:00Z"),
    ],
)  # fmt: skip
def test_a_cell_that_cannot_be_typed_is_null_and_named(kind: str, cell: str) -> None:
    cells = Cells(pd.DataFrame({"x": [cell]}, dtype=object), pd.Series([""], dtype=object))
    assert getattr(cells, kind)("x")[0] is pd.NA
    assert cells.unreadable()[0] == f"x={cell!r}"


def test_unreadable_cells_of_a_row_are_all_named_and_the_others_still_typed(small: Tables) -> None:
    text, notes = text_of("flights", small)
    text.loc[3, ["dep_delay", "day", "dest"]] = ["soon", "30", "QQQ"]
    raw = flights(text, notes)
    row = raw.slice(3, 1).to_pylist()[0]
    assert row["unreadable"] == "dep_delay='soon'; zone of dest='QQQ'; date='2013-02-30'"
    assert (
        row["dep_delay"] is None and row["date"] is None and row["arrived_at"] is None and row["block_minutes"] is None
    )
    assert row["dest"] == "QQQ" and row["distance"] == int(text.distance[3])
    assert raw["unreadable"].null_count == raw.num_rows - 1


def test_weather_is_typed_to_the_nearest_double(small: Tables) -> None:
    text, notes = text_of("weather", small)
    raw = weather(text, notes)
    assert [None if cell == "NA" else float(cell) for cell in text.wind_speed] == raw["wind_speed"].to_pylist()
    assert pc.max(raw["wind_speed"]).as_py() == 1048.36058


def test_a_row_with_too_few_or_too_many_cells_is_kept_and_marked() -> None:
    cells, notes = ingest.parse('a,b,c\n1,2,3\n1\n1,2,3,4\n\n"x,y",2,\n', ("b", "a"), "file")
    assert cells.to_numpy().tolist() == [["2", "1"], ["", "1"], ["2", "1"], ["2", "x,y"]]
    assert notes.tolist() == ["", "cells='1 instead of 3'; ", "cells='4 instead of 3'; ", ""]


# Bad landings


def csv_gz(text: str) -> bytes:
    return gzip.compress(text.encode(), mtime=0)


def truncated(good: bytes) -> bytes:
    return good[: len(good) // 2]


def without_dest(good: bytes) -> bytes:
    return csv_gz(gzip.decompress(good).decode().replace("dest", "destination", 1))


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (truncated, "not a whole gzip file"),
        (lambda _: b"", "is empty"),
        (lambda _: b"plain,text\n", "not a whole gzip file"),
        (lambda _: csv_gz(""), "is empty"),
        (without_dest, r"lacks the column\(s\) dest; it has .*destination"),
        (
            lambda good: csv_gz(gzip.decompress(good).decode().replace("tailnum", "origin", 1)),
            r"names .*origin more than",
        ),
        (lambda good: csv_gz(gzip.decompress(good).decode() + '"'), "rows, its manifest says"),
        (lambda good: csv_gz("\n".join(gzip.decompress(good).decode().split("\n")[:-50])), "rows, its manifest says"),
    ],
)
def test_a_file_that_landed_damaged_is_refused_whole(
    place: Place, small: Tables, damage: Callable[[bytes], bytes], problem: str
) -> None:
    place.land(small)
    good = (place.landing / INTERVAL / "flights.csv.gz").read_bytes()
    place.put("flights.csv.gz", damage(good), len(small["flights"][1]))
    place.run(manifest)
    with pytest.raises(DataError, match=rf"flights.csv.gz .*{problem}.*landing.py --month {INTERVAL}"):
        place.run(ingest)
    assert not place.written()


def land_a_header(place: Place, small: Tables, table: str) -> None:
    place.land(small)
    place.put(f"{table}.csv.gz", csv_gz(",".join(small[table][0]) + "\n"), 0)
    place.run(manifest)


def test_a_file_without_a_row_is_refused(place: Place, small: Tables) -> None:
    land_a_header(place, small, "flights")
    with pytest.raises(DataError, match=r"a header and no rows, and the table flights is not declared `may_be_empty`"):
        place.run(ingest)
    assert not place.written()


def test_where_the_source_allows_it_an_interval_without_a_row_lands(
    place: Place, small: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = {name: dataclasses.replace(table, may_be_empty=True) for name, table in MODEL.tables.items()}
    monkeypatch.setattr(spec, "current", lambda: dataclasses.replace(MODEL, tables=tables))
    land_a_header(place, small, "flights")
    place.run(ingest)
    place.run(validate)
    kept = pq.read_table(place.workspace / f"data/kept/{INTERVAL}/flights.parquet")
    assert kept.num_rows == 0 and kept.schema.equals(MODEL.tables["flights"].kept)
    counts = json.loads((place.workspace / f"data/counts/{INTERVAL}.json").read_bytes())
    assert counts["flights"] == {"landed": 0, "kept": 0, "quarantined": 0}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda good: good + b"more", r"bytes, its manifest says .*changed after it landed"),
        (lambda good: good[:-10], r"bytes, its manifest says .*changed after it landed"),
        (lambda good: good[:-1] + bytes([good[-1] ^ 1]), r"sha256 .*, its manifest says .*changed after it landed"),
    ],
)
def test_a_file_that_changed_after_its_manifest_is_refused(
    place: Place, small: Tables, change: Callable[[bytes], bytes], problem: str
) -> None:
    place.land(small)
    place.run(manifest)
    file = place.landing / INTERVAL / "weather.csv.gz"
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(Unavailable, match=rf"weather.csv.gz has .*{problem}.*next try.*landing.py --month {INTERVAL}"):
        place.run(ingest)
    assert not place.written()


def test_a_correction_that_is_read_while_it_lands_is_taken_in_by_the_next_try(
    place: Place, small: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The feed replaces one file, then the other, then the manifest; the first try falls between."""
    header, rows = small["weather"]
    place.land(small)
    place.run(manifest)
    read = Store.read

    def land_meanwhile(store: Store, name: str, sha256_hex: str | None = None) -> bytes:
        data = read(store, name, sha256_hex)
        if name.endswith("flights.csv.gz"):
            monkeypatch.setattr(Store, "read", read)
            place.land({"weather": (header, rows[:-1])})
        return data

    monkeypatch.setattr(Store, "read", land_meanwhile)
    with pytest.raises(Unavailable, match="next try takes it in"):
        place.run(ingest)
    assert not place.written()
    place.run(manifest)
    place.run(ingest)
    assert pq.read_metadata(place.workspace / f"data/raw/{INTERVAL}/weather.parquet").num_rows == len(rows) - 1


def test_a_huge_cell_spoils_its_row_and_not_the_interval(place: Place, small: Tables) -> None:
    header, rows = small["flights"]
    huge = [[*row] for row in rows]
    huge[7][header.index("tailnum")] = "x" * 200_000
    huge[9][header.index("dest")] = "y" * 200_000
    place.land({**small, "flights": (header, huge)})
    place.run(manifest)
    place.run(ingest)
    raw = pq.read_table(place.workspace / f"data/raw/{INTERVAL}/flights.parquet")
    verdict = validate.judge(raw, "flights", INTERVAL)
    spoilt = [row for row in verdict.quarantined.to_pylist() if "cells cannot be read" in row["reason"]]
    assert verdict.landed == len(rows)
    assert sorted(re.findall(r"cells='(\w+) of 200,000 characters'", "".join(row["unreadable"] for row in spoilt))) == [
        "dest",
        "tailnum",
    ]


def test_a_file_that_grows_while_it_is_read_is_refused_or_read_as_it_was(
    place: Place, small: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is verified is what is used: a change after the one read cannot get in, one before it is seen."""
    place.land(small)
    place.run(manifest)
    file = place.landing / INTERVAL / "flights.csv.gz"
    read, reads = Store.read, []

    def read_then_grow(store: Store, name: str, sha256_hex: str | None = None) -> bytes:
        data = read(store, name, sha256_hex)
        reads.append(name)
        with file.open("ab") as growing:
            growing.write(b"a later row")
        return data

    monkeypatch.setattr(Store, "read", read_then_grow)
    place.run(ingest)
    assert sorted(reads) == [f"{INTERVAL}/flights.csv.gz", f"{INTERVAL}/weather.csv.gz"]
    first = digests(place.workspace / "data/raw")
    with pytest.raises(Unavailable, match="changed after it landed"):
        place.run(ingest)
    assert digests(place.workspace / "data/raw") == first


def test_a_file_that_is_gone_or_not_in_the_manifest_is_named(place: Place, small: Tables) -> None:
    place.land({"flights": small["flights"]})
    place.run(manifest)
    with pytest.raises(DataError, match=r"weather.csv.gz is not in its manifest"):
        place.run(ingest)
    place.land(small)
    place.run(manifest)
    (place.landing / INTERVAL / "weather.csv.gz").unlink()
    with pytest.raises(DataError, match=r"weather.csv.gz has not landed"):
        place.run(ingest)
    assert not place.written()


def test_without_its_manifest_an_interval_is_not_ingested(place: Place, small: Tables) -> None:
    place.land(small)
    with pytest.raises(DataError, match=r"manifests/2013-02.json is missing; run python tasks/manifest.py"):
        place.run(ingest)
    assert not place.written()


def test_one_byte_that_is_not_text_spoils_its_row_and_not_the_interval(place: Place, small: Tables) -> None:
    place.land(small)
    _, rows = small["flights"]
    good = gzip.decompress((place.landing / INTERVAL / "flights.csv.gz").read_bytes())
    at = good.index(b",UA,")
    place.put("flights.csv.gz", gzip.compress(good[: at + 1] + b"\xff" + good[at + 2 :]), len(rows))
    place.run(manifest)
    place.run(ingest)
    raw = pq.read_table(place.workspace / f"data/raw/{INTERVAL}/flights.parquet")
    assert raw.num_rows == len(rows)
    assert pc.sum(pc.equal(raw["carrier"], pa.scalar("�A"))).as_py() == 1


def test_leftovers_of_an_earlier_run_do_not_stay(place: Place, small: Tables, tmp_path: Path) -> None:
    place.land(small)
    place.run(manifest)
    place.run(ingest)
    first = digests(place.workspace / "data/raw")
    for folder in (INTERVAL, f".{INTERVAL}.partial"):
        (place.workspace / "data/raw" / folder).mkdir(exist_ok=True)
        (place.workspace / "data/raw" / folder / "left.parquet").write_bytes(b"half")
    place.run(ingest)
    assert digests(place.workspace / "data/raw") == first
