"""The training rows in an order that the seed and the epoch fix, read from Parquet with a window of them in memory.

An epoch takes the files' row groups in a random order, a window of some of them at a time, and the rows of a window in a
random order: each row once. Both orders come from a counter-based generator keyed by seed, epoch and window, so that any
position of any epoch is reached without what came before it, by however many processes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from tasks import spec
from tasks.modelling.model import Contract, Matrix
from tasks.training.source import Source, wanted_of

Order = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Group:
    """A row group of a file."""

    path: Path
    number: int
    start: int
    """First row in the file."""
    rows: int
    """Of the training part."""


def generator(*key: int) -> np.random.Generator:
    """Random numbers that ``key`` alone determines."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([part % 2**64 for part in key])))


def order(seed: int, epoch: int, window: int, rows: int) -> Order:
    """The order of a window's rows."""
    return generator(seed, epoch, 1 + window).permutation(rows)


class Rows:
    """The training rows of ``source``, encoded.

    Args:
        source: of the rows.
        contract: how they are encoded.
        seed: of their order.
        window: rows in memory at a time, less or more by a row group; twice as many while the next are read.
    """

    def __init__(self, source: Source, contract: Contract, seed: int, window: int) -> None:
        self._source, self._contract, self._seed, self._window = source, contract, seed, window
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="rows")
        self._read: dict[tuple[int, ...], Future[tuple[Matrix, Matrix]]] = {}

    @cached_property
    def groups(self) -> list[Group]:
        """Every row group that holds training rows; one pass over days and labels."""
        found = []
        for path in self._source.paths:
            start = 0
            with pq.ParquetFile(path) as file:
                for number in range(file.num_row_groups):
                    days = file.read_row_group(number, ["day"])
                    rows = self._source.keep(self._source.labelled(days, path, start), "train").num_rows
                    if rows:
                        found.append(Group(path, number, start, rows))
                    start += days.num_rows
        return found

    def __len__(self) -> int:
        """Rows of an epoch."""
        return sum(group.rows for group in self.groups)

    def windows(self, epoch: int) -> list[tuple[int, ...]]:
        """The row groups (indices into ``groups``) of each window, in the epoch's order."""
        windows: list[tuple[int, ...]] = []
        taken: list[int] = []
        rows = 0
        for index in generator(self._seed, epoch, 0).permutation(len(self.groups)).tolist():
            taken.append(index)
            rows += self.groups[index].rows
            if rows >= self._window:
                windows.append(tuple(sorted(taken)))
                taken, rows = [], 0
        return [*windows, tuple(sorted(taken))] if taken else windows

    def epoch(self, epoch: int) -> Epoch:
        """The rows of ``epoch``, to be taken by their positions."""
        return Epoch(self, self._seed, epoch)

    def request(self, windows: Sequence[tuple[int, ...]]) -> None:
        """Have these windows read, in another thread, and forget all others."""
        self._read = {window: self._read.get(window) or self._reader.submit(self._load, window) for window in windows}

    def window(self, window: tuple[int, ...]) -> tuple[Matrix, Matrix]:
        """Features [n, features] and labels [n] of a requested window, in the files' order."""
        return self._read[window].result()

    def close(self) -> None:
        """Stop reading."""
        self._reader.shutdown(cancel_futures=True)
        self._read = {}

    def _load(self, window: tuple[int, ...]) -> tuple[Matrix, Matrix]:
        model, size = spec.current(), sum(self.groups[index].rows for index in window)
        x, y = np.empty((size, len(model.features)), np.float32), np.empty(size, np.float32)
        at = 0
        for index in window:
            group = self.groups[index]
            with pq.ParquetFile(group.path) as file:
                read = file.read_row_group(group.number, wanted_of(None))
            table = self._source.keep(self._source.labelled(read, group.path, group.start), "train")
            end = at + table.num_rows
            x[at:end], y[at:end] = encoded(table, self._contract)
            at = end
        return x, y


class Epoch:
    """The rows of one epoch; positions are taken in rising order."""

    def __init__(self, rows: Rows, seed: int, epoch: int) -> None:
        self._rows, self._seed, self._epoch = rows, seed, epoch
        self._windows = rows.windows(epoch)
        sizes = [sum(rows.groups[index].rows for index in window) for window in self._windows]
        self._starts = [0, *accumulate(sizes)]
        self._current = -1
        self._order: Order = np.empty(0, np.int64)

    def __len__(self) -> int:
        return self._starts[-1]

    def take(self, start: int, stop: int) -> tuple[Matrix, Matrix]:
        """Features [n, features] and labels [n] of the positions from ``start`` to below ``stop``; fewer at the end."""
        parts = list(self._parts(start, min(stop, len(self))))
        if len(parts) == 1:
            return parts[0]
        x = np.concatenate([np.empty((0, len(spec.current().features)), np.float32), *(x for x, _ in parts)])
        return x, np.concatenate([np.empty(0, np.float32), *(y for _, y in parts)])

    def _parts(self, start: int, stop: int) -> Iterator[tuple[Matrix, Matrix]]:
        while start < stop:
            window = bisect_right(self._starts, start) - 1
            first, end = self._starts[window], min(stop, self._starts[window + 1])
            if window != self._current:
                self._current = window
                self._rows.request(self._windows[window : window + 2])
                self._order = order(self._seed, self._epoch, window, self._starts[window + 1] - first)
            x, y = self._rows.window(self._windows[window])
            picked = self._order[start - first : end - first]
            yield x[picked], y[picked]
            start = end


def encoded(table: pa.Table | pa.RecordBatch, contract: Contract) -> tuple[Matrix, Matrix]:
    """Features [n, features] and labels [n] of a table, as float32."""
    return contract.encode(table), np.asarray(table.column(spec.current().label)).astype(np.float32)
