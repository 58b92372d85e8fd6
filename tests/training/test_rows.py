"""The order of the training rows: each once, by seed and epoch alone, reached at any position, a window of them in memory."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from tasks.settings.value_types import DayRule
from tasks.training.neural.rows import Rows
from tasks.training.source import Source
from tests import makers

INTERVALS = ("2013-01", "2013-02")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """Rows that can be told apart by their distance, in row groups of 100."""
    folder = tmp_path_factory.mktemp("data")
    first = 0
    for interval in INTERVALS:
        table = makers.features(interval, 40)
        numbers = pa.array(np.arange(first, first + len(table), dtype=np.float64))
        table = table.set_column(table.schema.get_field_index("distance"), "distance", numbers)
        makers.put(table, folder, interval, row_group_size=100)
        first += len(table)
    return Source(folder / "features", INTERVALS, DayRule(every=4, remainder=2), DayRule(every=8, remainder=4))


def rows_of(source: Source, seed: int = 1, window: int = 300) -> Rows:
    return Rows(source, source.contract(), seed, window)


def numbers(rows: Rows, epoch: int, step: int = 64, start: int = 0) -> list[int]:
    """Which rows an epoch gives, from a position on, ``step`` at a time."""
    at = rows._contract.names.index("distance")
    of = rows.epoch(epoch)
    return [int(v) for i in range(start, len(of), step) for v in of.take(i, i + step)[0][:, at]]


@pytest.mark.parametrize("window", [1, 300, 10**9])
def test_an_epoch_has_each_row_once_with_its_own_label(source: Source, window: int) -> None:
    expected = source.table("train")
    label = dict(zip(expected["distance"].to_pylist(), expected["late"].to_pylist(), strict=True))
    rows = rows_of(source, window=window)
    found = numbers(rows, 0)
    assert len(found) == len(rows) == expected.num_rows
    assert set(found) == set(label)
    of = rows.epoch(1)
    x, y = of.take(0, len(of))
    at = rows._contract.names.index("distance")
    assert all(label[float(d)] == late for d, late in zip(x[:, at], y, strict=True))


def test_seed_and_epoch_make_the_order_and_nothing_else_does(source: Source) -> None:
    order = numbers(rows_of(source), 3)
    assert order == numbers(rows_of(source), 3, step=17), "taken in other portions"
    other = rows_of(source)
    numbers(other, 2)
    assert order == numbers(other, 3), "after another epoch"
    assert order != numbers(rows_of(source), 4)
    assert order != numbers(rows_of(source, seed=2), 3)
    assert order != sorted(order)
    one_window = [numbers(rows_of(source, seed, window=10**9), epoch) for seed, epoch in ((1, 0), (1, 1), (2, 0))]
    assert len({tuple(found) for found in one_window}) == 3


def test_a_position_is_reached_without_what_comes_before_it(source: Source) -> None:
    order = numbers(rows_of(source), 5)
    for start in (1, 299, 300, 301, 1000, len(order) - 1):
        assert numbers(rows_of(source), 5, start=start) == order[start:]


def test_processes_share_an_epoch_without_a_word(source: Source) -> None:
    """Each takes its part of every step; together they have what one alone would have."""
    order = numbers(rows_of(source), 0, step=60)
    parts = []
    for rank in range(3):
        rows = rows_of(source)
        of, at = rows.epoch(0), rows._contract.names.index("distance")
        parts.append([of.take(i + 20 * rank, i + 20 * rank + 20)[0][:, at] for i in range(0, len(of), 60)])
    assert [int(v) for step in zip(*parts, strict=True) for part in step for v in part] == order


def test_rows_are_mixed_across_files_as_far_as_the_window_goes(source: Source) -> None:
    """Neighbours in the files are far apart in an epoch whose window holds them all, and in other places the next time."""
    order = np.array(numbers(rows_of(source, window=10**9), 0))
    assert abs(np.corrcoef(np.arange(len(order)), order)[0, 1]) < 0.1
    narrow = rows_of(source, window=300)
    first, second = (narrow.windows(epoch) for epoch in (0, 1))
    assert first != second
    assert sorted(i for w in first for i in w) == list(range(len(narrow.groups)))
    assert all(sum(narrow.groups[i].rows for i in w) < 300 + 100 for w in first)


def test_two_windows_at_most_are_in_memory(source: Source) -> None:
    rows = rows_of(source, window=200)
    of = rows.epoch(0)
    for start in range(0, len(of), 50):
        of.take(start, start + 50)
        assert len(rows._read) <= 2
    rows.close()


def test_beyond_the_end_there_are_no_rows(source: Source) -> None:
    of = rows_of(source).epoch(0)
    x, y = of.take(len(of) - 3, len(of) + 5)
    assert (len(x), len(y)) == (3, 3)
    x, y = of.take(len(of) + 64, len(of) + 128)
    assert (x.shape, y.shape) == ((0, 24), (0,))
