"""A data set larger than the memory that the training is allowed: it trains, and more rows take no more memory."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tasks.settings.environment import CODE
from tests import makers

CAP = 96 * 2**20
"""Bytes that a training may take for itself, above what its libraries have when they are imported."""

CHILD = """
import json, resource, sys
from pathlib import Path
import psutil, torch
from tasks import train as stage
from tasks.settings.training_params import TrainParams
from tasks.settings.value_types import DayRule
from tasks.training.families import named
from tasks.training.source import Source

folder, raw, cap = Path(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3])
settings = TrainParams.model_validate(raw)
named("mlp")
def data():
    return int(next(l for l in open("/proc/self/status") if l.startswith("VmData")).split()[1]) * 1024
def source(interval):
    return Source(folder, (interval,), DayRule(every=4, remainder=2), settings.validation)
stage.train(source("2013-02"), settings)  # what libraries allocate once is no part of the claim
begun = data()
resource.setrlimit(resource.RLIMIT_DATA, (begun + cap, begun + cap))
made = json.loads(stage.train(source("2013-01"), settings).metrics)
print(json.dumps({"rows": made["rows"]["train"], "steps": made["steps"]}))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small interval, and one that is three times as large in memory as the cap, in row groups of 20,000."""
    made = tmp_path_factory.mktemp("large")
    part = makers.features("2013-01", 20_000 // 31)
    makers.put(part, made, "2013-02")
    features, labels = part.drop_columns(["as_of", "late"]), makers.lines(part)
    (made / "labels").mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        feature_rows, lines = (
            stack.enter_context(pq.ParquetWriter(made / f"{name}/2013-01.parquet", table.schema, compression="zstd"))
            for name, table in (("features", features), ("labels", labels))
        )
        for number in range(1 + 3 * CAP // features.nbytes):
            later = dt.timedelta(days=31 * number)  # so that keys are unique, and sorted
            feature_rows.write_table(_later(features, later))
            lines.write_table(_later(labels, later))
    return made / "features"


def _later(table: pa.Table, by: dt.timedelta) -> pa.Table:
    dates = pc.add(table["date"].cast(pa.timestamp("s")), pa.scalar(by)).cast(pa.date32())
    return table.set_column(table.schema.get_field_index("date"), "date", dates)


def run(folder: Path, **mlp) -> subprocess.CompletedProcess[str]:
    raw = makers.settings()["train"] | {"family": "mlp"}
    raw["mlp"] |= {"epochs": 1, "device_batch": 8192, "hidden": [8], "window": 40_000} | mlp
    return subprocess.run(
        [sys.executable, "-c", CHILD, str(folder), json.dumps(raw), str(CAP)],
        cwd=CODE, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_it_trains_on_more_than_its_memory_holds(folder: Path) -> None:
    with pq.ParquetFile(folder / "2013-01.parquet") as file:
        rows = file.metadata.num_rows
        size = rows * sum(8 if pa.types.is_floating(field.type) else 1 for field in file.schema_arrow)
    assert size > 2.5 * CAP
    done = run(folder)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["rows"] > 0.55 * rows
    assert found["steps"] == -(-found["rows"] // 8192)


def test_the_cap_is_one_that_all_rows_at_once_would_break(folder: Path) -> None:
    """The same training with a window that holds them all: what the test above allows would not do."""
    done = run(folder, window=10**9)
    assert done.returncode != 0
    assert "MemoryError" in done.stderr or "memory" in done.stderr.lower()
