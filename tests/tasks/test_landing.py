"""The landing script: the feed's own rows, month by month, the same bytes each time."""

from __future__ import annotations

import csv
import gzip
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from models.flights import landing
from tasks import manifest
from tasks.core.errors import ConfigError, DataError
from tasks.core.urls import url_of
from tasks.settings.environment import CODE, environment
from tasks.storage.artefacts import Store, sha256
from tests.killing import digests
from tests.tasks.conftest import INTERVAL, Place, Tables


def test_a_month_landed_twice_has_the_same_bytes_whatever_the_order_of_the_rows(place: Place, small: Tables) -> None:
    zone = Store(url_of(place.landing))
    landing.land(INTERVAL, small, zone)
    first = digests(place.landing)
    landing.land(INTERVAL, {table: (header, rows[::-1]) for table, (header, rows) in small.items()}, zone)
    assert digests(place.landing) == first
    assert sorted(first) == [f"{INTERVAL}/{name}" for name in ("flights.csv.gz", "manifest.json", "weather.csv.gz")]


def test_a_landed_month_is_the_packages_rows_of_that_month_and_its_manifest_says_so(place: Place, year: Tables) -> None:
    counts = landing.land(INTERVAL, year, Store(url_of(place.landing)))
    assert counts == {"flights": 24951, "weather": 2010}
    said = json.loads((place.landing / INTERVAL / "manifest.json").read_bytes())
    assert said["interval"] == INTERVAL
    for table, (header, rows) in year.items():
        data = (place.landing / INTERVAL / f"{table}.csv.gz").read_bytes()
        assert said["files"][f"{table}.csv.gz"] == {"sha256": sha256(data), "bytes": len(data), "rows": counts[table]}
        landed_header, *landed = csv.reader(io.StringIO(gzip.decompress(data).decode()))
        at = header.index("month")
        assert landed_header == header
        assert sorted(landed) == sorted(row for row in rows if row[at] == "2")


def test_all_months_together_are_the_whole_year(year: Tables) -> None:
    header, rows = year["weather"]
    landed = [
        row for n in range(1, 13) for row in landing.monthly(header, rows, f"2013-{n:02d}", landing.ORDER["weather"])
    ]
    assert sorted(landed) == sorted(rows)


def test_the_script_runs_by_its_path_in_any_folder(place: Place, archive: Path) -> None:
    script = CODE / "models/flights/landing.py"
    environ = {**place.environ, "AIRLOOP_SOURCE": str(archive), "PYTHONPATH": str(CODE), "PATH": ""}
    argv = [sys.executable, str(script), "--month", INTERVAL, "--through", INTERVAL]
    done = subprocess.run(argv, cwd=place.workspace, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{INTERVAL}: 24,951 flights, 2,010 weather landed in file://")


def test_a_month_that_the_example_lacks_is_refused_before_anything_is_written(place: Place, year: Tables) -> None:
    with pytest.raises(ConfigError, match=r"2014-01.*choose 2013-01 to 2013-12"):
        landing.land("2014-01", year, Store(url_of(place.landing)))
    assert not place.landing.exists()


def test_another_file_than_the_pinned_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / landing.SDIST
    other.write_bytes(b"not it")
    monkeypatch.setenv("AIRLOOP_SOURCE", str(other))
    with pytest.raises(DataError, match="sha256"):
        landing.source()
    monkeypatch.setenv("AIRLOOP_SOURCE", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="not a file"):
        landing.source()


def test_without_a_network_one_sentence_says_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_EXTRA_INDEX_URL": "", "PIP_FIND_LINKS": ""}
    quick = {"PIP_RETRIES": "0", "PIP_NO_CACHE_DIR": "1", "PIP_CONFIG_FILE": "/dev/null", "AIRLOOP_HOME": str(tmp_path)}
    for name, value in (nowhere | quick).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AIRLOOP_SOURCE", raising=False)
    environment.cache_clear()
    with pytest.raises(DataError, match=r"could not be fetched.*AIRLOOP_SOURCE=/path/to"):
        landing.source()
    environment.cache_clear()
    assert not digests(tmp_path)


def test_the_manifest_stage_stands_for_what_landed(place: Place, small: Tables) -> None:
    place.land(small)
    place.run(manifest)
    written = place.workspace / f"data/manifests/{INTERVAL}.json"
    assert json.loads(written.read_bytes()) == json.loads((place.landing / INTERVAL / "manifest.json").read_bytes())


def test_a_feeds_own_keys_in_the_manifest_do_not_make_a_month_a_new_one(place: Place, small: Tables) -> None:
    place.land(small)
    place.run(manifest)
    written = place.workspace / f"data/manifests/{INTERVAL}.json"
    before = written.read_bytes()
    landed = place.landing / INTERVAL / "manifest.json"
    landed.write_text(json.dumps(json.loads(landed.read_bytes()) | {"delivered_at": "today"}))
    place.run(manifest)
    assert written.read_bytes() == before


def test_a_month_that_has_not_landed_is_named_with_the_command_to_land_it(place: Place) -> None:
    with pytest.raises(
        DataError, match=r"landing/flights/2013-02/manifest.json has not landed.*landing.py --month 2013-02"
    ):
        place.run(manifest)
    assert not (place.workspace / "data").exists()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "not a manifest"),
        (b'{"interval": "2013-02"', "not a manifest"),
        (b"[]", "not a manifest"),
        (b'{"interval": "2013-02", "files": {"flights.csv.gz": {"sha256": "?", "bytes": 1, "rows": 1}}}', "sha256"),
        (b'{"interval": "2013-03", "files": {}}', "is the manifest of 2013-03, not of 2013-02"),
    ],
)
def test_what_is_no_manifest_of_the_month_is_refused(place: Place, content: bytes, problem: str) -> None:
    (place.landing / INTERVAL).mkdir(parents=True)
    (place.landing / INTERVAL / "manifest.json").write_bytes(content)
    with pytest.raises(DataError, match=problem):
        place.run(manifest)
    assert not (place.workspace / "data").exists()
