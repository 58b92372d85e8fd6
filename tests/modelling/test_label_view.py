"""Labels as of an interval: each row gets the newest outcome that had landed, and nothing that came later."""

from __future__ import annotations

import dataclasses
import datetime as dt
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.flights.definitions import KEY
from models.flights.model import MODEL
from tasks import spec
from tasks.core.errors import DataError
from tasks.modelling import label_view
from tasks.modelling.label_view import aligned
from tasks.modelling.tables import read_features
from tasks.settings.value_types import DayRule
from tasks.training.source import Source
from tests import makers

JANUARY, FEBRUARY, MARCH, APRIL = "2013-01", "2013-02", "2013-03", "2013-04"
LATE = dataclasses.replace(MODEL, maturity=dt.timedelta(days=28))
"""A model whose outcomes can land in the month after their row's."""


@pytest.fixture
def table() -> pa.Table:
    return makers.features(JANUARY, 20)


@pytest.fixture
def data(tmp_path: Path, table: pa.Table, monkeypatch: pytest.MonkeyPatch) -> Path:
    """January's rows, of which no outcome has landed, and the label files of January to April, empty."""
    monkeypatch.setattr(spec, "current", lambda: LATE)
    makers.put(table, tmp_path, JANUARY)
    for interval in (JANUARY, FEBRUARY, MARCH, APRIL):
        put(tmp_path, interval, table.slice(0, 0), [])
    return tmp_path


def put(data: Path, interval: str, rows: pa.Table, outcomes: list[int]) -> None:
    """Let these outcomes of some rows land in ``interval``."""
    lines = rows.select(KEY).append_column("late", pa.array(outcomes, pa.int8()))
    pq.write_table(lines.sort_by([(name, "ascending") for name in KEY]), data / f"labels/{interval}.parquet")


def known(data: Path, through: str) -> list[int | None]:
    return aligned(data / f"features/{JANUARY}.parquet", through).to_pylist()


def test_an_outcome_that_lands_in_a_later_interval_is_null_before_and_there_after(data: Path, table: pa.Table) -> None:
    put(data, FEBRUARY, table.slice(3, 2), [1, 0])
    assert known(data, JANUARY) == [None] * len(table)
    assert known(data, FEBRUARY) == known(data, APRIL) == [None] * 3 + [1, 0] + [None] * (len(table) - 5)


def test_a_corrected_outcome_counts_from_the_interval_that_it_lands_in(data: Path, table: pa.Table) -> None:
    put(data, JANUARY, table.slice(0, 3), [0, 1, 0])
    put(data, FEBRUARY, table.slice(1, 1), [0])
    assert known(data, JANUARY)[:3] == [0, 1, 0]
    assert known(data, FEBRUARY)[:3] == [0, 0, 0]


def test_an_outcome_of_a_row_that_nobody_knows_is_ignored(data: Path, table: pa.Table) -> None:
    stranger = table.slice(0, 1).set_column(table.schema.get_field_index("carrier"), "carrier", pa.array(["ZZ"]))
    put(data, JANUARY, pa.concat_tables([table.slice(0, 1), stranger]), [1, 0])
    assert known(data, JANUARY) == [1] + [None] * (len(table) - 1)


def test_what_lands_after_the_maturity_is_not_read(data: Path, table: pa.Table) -> None:
    put(data, MARCH, table.slice(0, 1), [1])
    assert known(data, APRIL) == [None] * len(table)
    (data / f"labels/{MARCH}.parquet").unlink()
    assert known(data, APRIL) == [None] * len(table)


def test_rows_of_an_interval_after_the_last_have_no_outcome(data: Path, table: pa.Table) -> None:
    makers.put(table, data, MARCH)
    assert aligned(data / f"features/{MARCH}.parquet", FEBRUARY).null_count == len(table)


def test_a_label_file_that_is_not_there_is_named(data: Path) -> None:
    (data / f"labels/{FEBRUARY}.parquet").unlink()
    assert known(data, JANUARY)
    with pytest.raises(DataError, match=f"labels lacks {FEBRUARY}; run `dvc repro`"):
        known(data, FEBRUARY)


@pytest.mark.parametrize("batch", [7, 10**6])
@pytest.mark.parametrize("group", [5, 10**6])
def test_neither_row_groups_nor_batches_nor_the_order_of_rows_change_a_label(
    tmp_path: Path, table: pa.Table, batch: int, group: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_view, "BATCH", batch)
    makers.put(table, tmp_path, JANUARY, row_group_size=group)
    assert known(tmp_path, JANUARY) == table["late"].to_pylist()
    shuffled = table.take(pa.array(np.random.default_rng(5).permutation(len(table))))
    makers.put(shuffled, tmp_path, JANUARY, row_group_size=group)
    assert known(tmp_path, JANUARY) == shuffled["late"].to_pylist()


def test_a_file_without_a_row_has_no_label(tmp_path: Path, table: pa.Table) -> None:
    makers.put(table.slice(0, 0), tmp_path, JANUARY)
    assert known(tmp_path, JANUARY) == []


def test_feature_tables_have_the_label_as_of_the_interval_that_is_asked_for(data: Path, table: pa.Table) -> None:
    put(data, FEBRUARY, table.slice(0, 1), [1])
    folder = data / "features"
    assert "late" not in read_features([JANUARY], folder=folder).column_names
    for through, late in ((JANUARY, None), (FEBRUARY, 1)):
        found = read_features([JANUARY], ["late", "day"], folder, labels_through=through)
        assert found.column_names == ["day", "late"] and found["late"][0].as_py() == late


def test_a_training_learns_from_what_has_landed_by_its_last_interval(data: Path, table: pa.Table) -> None:
    makers.put(table.slice(0, 0), data, FEBRUARY)
    days = table.filter(pa.array(np.asarray(table["day"]) == 0))
    put(data, JANUARY, days, [0] * len(days))
    put(data, FEBRUARY, days.slice(0, 1), [1])
    rules = DayRule(every=4, remainder=2), DayRule(every=8, remainder=4)
    early, late = (Source(data / "features", keys, *rules) for keys in ((JANUARY,), (JANUARY, FEBRUARY)))
    assert early.table("train")["late"].to_pylist() == [0] * len(days)
    assert late.table("train")["late"].to_pylist() == [1] + [0] * (len(days) - 1)
    before = late.digest
    put(data, FEBRUARY, days.slice(0, 2), [1, 1])
    assert Source(data / "features", (JANUARY, FEBRUARY), *rules).digest != before
