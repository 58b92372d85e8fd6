"""Features that look back over several intervals, each built on a machine of its own: the protocol, Spark and the feed are real."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.flights import landing
from tasks import spec
from tasks.core.urls import url_of
from tasks.settings import params, settings_files
from tasks.settings.environment import CODE
from tasks.storage.artefacts import Store
from tasks.storage.files import parquet_bytes
from tests.faults.world import Place, Step

INTERVALS = ("2013-01", "2013-02", "2013-03")
LAST = INTERVALS[-1]
DAYS = {1: range(25, 32), 2: range(1, 4), 3: range(1, 3)}
"""Days of each month that land."""

pytestmark = pytest.mark.slow


def test_what_the_look_back_sees_is_all_that_lies_in_it_wherever_it_was_made(tmp_path: Path) -> None:
    _land(tmp_path / "landing")
    checkout = _checkout(tmp_path / "checkout")
    for key in INTERVALS:
        place = Place(tmp_path, tmp_path / "landing")
        place.home = tmp_path / f"home-{key}"  # its own cache: all that it looks back on comes from the remote
        for names in (("manifest", "ingest"), ("validate",)):
            _do(checkout, place, Step("stage", names, f"ingest-{key}", key, begins="manifest" in names))
        tails = place.home / f"runs/ingest-{key}/data/tail"
        assert key != LAST or not (tails / INTERVALS[0]).exists(), "validate reads no tail, so none is fetched for it"
        _do(checkout, place, Step("stage", ("labels", "features"), f"ingest-{key}", key))
        _do(checkout, place, Step("job", ("publish",), f"ingest-{key}", key))
    runs = {key: tmp_path / f"home-{key}/runs/ingest-{key}/data" for key in INTERVALS}
    made = (runs[LAST] / f"features/{LAST}.parquet").read_bytes()
    assert made == _expected(runs, INTERVALS[:-1])
    assert made != _expected(runs, INTERVALS[1:-1]), "the first interval is seen too"
    assert not (runs[LAST] / "kept/2013-01").exists(), "of which only the tail is fetched"


def _checkout(root: Path) -> Path:
    """One whose features look back forty days."""
    for name in ("models", "tasks"):
        shutil.copytree(CODE / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", "jobs.yaml", "params.yaml"):
        shutil.copy(CODE / name, root)
    settings_files.put(root / settings_files.of_model("flights"), {"features.trailing_days": 40})
    return root


def _do(checkout: Path, place: Place, step: Step) -> None:
    env = place.environment(AIRLOOP_CODE=str(checkout), PYTHONPATH=str(checkout))
    done = subprocess.run(step.argv(), cwd=checkout, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _expected(runs: dict[str, Path], before: tuple[str, ...]) -> bytes:
    """Features of the last interval by DuckDB, looking back on everything that was kept of ``before``."""
    model = spec.load("flights")
    raw = settings_files.read(CODE, "flights") | settings_files.rendered(CODE, "flights")
    raw["features"]["trailing_days"] = 40
    spans = {"interval": (LAST,), "before": before, "all": (*before, LAST)}
    connection = duckdb.connect()
    connection.execute(model.duckdb_macros)
    for name, view in model.views.items():
        files = [runs[key] / f"kept/{key}/{view.table}.parquet" for key in spans[view.span]]
        connection.register(name, pa.concat_tables([pq.read_table(file) for file in files]))
    rows = connection.sql(model.features_sql(params.parse(raw).features, "")).to_arrow_table()
    schema = pq.read_schema(runs[LAST] / f"features/{LAST}.parquet")
    return parquet_bytes(rows.cast(schema).sort_by([(name, "ascending") for name in model.key]))


def _land(zone: Path) -> None:
    tables = landing.read_tables(landing.source(), INTERVALS)
    header, rows = tables["flights"]
    month, day = header.index("month"), header.index("day")
    few = [row for row in rows if int(row[day]) in DAYS[int(row[month])]]
    for key in INTERVALS:
        landing.land(key, {**tables, "flights": (header, few)}, Store(url_of(zone)).part("flights"))
