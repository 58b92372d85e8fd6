"""The rows that a training may see, on disk: labelled, not held out, and divided by whole days into two parts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from tasks import spec
from tasks.core.errors import DataError
from tasks.modelling import label_view
from tasks.modelling.model import Contract, Feature
from tasks.modelling.tables import on_days, paths_of
from tasks.settings.value_types import DayRule
from tasks.storage.artefacts import sha256_file, to_json

Part = Literal["train", "validation"]
"""Days to learn from, and days to stop on."""

UNKNOWN = "0" * 64
"""Stands for the digest of an ONNX file that is not made yet."""


@dataclass(frozen=True)
class Source:
    """Feature rows of the window's intervals, with the labels as of its last; nothing is read before it is asked for."""

    folder: Path
    """Folder of ``<interval>.parquet``; that of the labels is beside it."""
    intervals: tuple[str, ...]
    holdout: DayRule
    """Days that no model trains or stops on."""
    validation: DayRule
    """Days to stop on, of those that are left."""
    span: tuple[int, int] | None = None
    """First day and the one after the last, where other days are not to be seen: a search asks what earlier days know of later."""
    _labels: dict[Path, pa.Array] = field(default_factory=dict, repr=False, compare=False)
    """Labels of the files that were read: a byte a row, which is less than to join them again in each pass."""

    @cached_property
    def paths(self) -> list[Path]:
        """The intervals' files, oldest first; DataError names the intervals that are not there."""
        return paths_of(self.intervals, self.folder)

    @property
    def through(self) -> str:
        """The last interval, as of which the labels are."""
        return max(self.intervals)

    def labelled(self, rows: pa.Table | pa.RecordBatch, path: Path, start: int) -> pa.Table | pa.RecordBatch:
        """``rows``, which begin at row ``start`` of the file at ``path``, with their label as the last column."""
        if path not in self._labels:
            self._labels[path] = label_view.aligned(path, self.through)
        return rows.append_column(spec.current().label, self._labels[path].slice(start, rows.num_rows))

    def keep(self, rows: pa.Table | pa.RecordBatch, part: Part) -> pa.Table | pa.RecordBatch:
        """Those of ``rows``, which have the columns ``day`` and the label, that belong to ``part``."""
        days = np.asarray(rows.column("day"))
        inside = ~on_days(days, self.holdout) & (on_days(days, self.validation) == (part == "validation"))
        if self.span is not None:
            inside &= (days >= self.span[0]) & (days < self.span[1])
        return rows.filter(pc.and_(pa.array(inside), pc.is_valid(rows.column(spec.current().label))))

    def batches(self, part: Part, columns: Sequence[str] | None = None, rows: int = 65536) -> Iterator[pa.RecordBatch]:
        """Rows of ``part`` in the files' order, in batches of at most ``rows``, with ``columns`` (all inputs of a model), the label and the day.

        Memory holds some batches at a time, however many intervals there are.
        """
        wanted = wanted_of(columns)
        for path in self.paths:
            start = 0
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=rows, columns=wanted):
                    kept = self.keep(self.labelled(batch, path, start), part)
                    start += batch.num_rows
                    if kept.num_rows:
                        yield kept

    def table(self, part: Part, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows of ``part`` in memory."""
        found = ds.dataset(self.paths).schema
        schema = pa.schema([*(found.field(name) for name in wanted_of(columns)), (spec.current().label, pa.int8())])
        return pa.Table.from_batches(self.batches(part, columns), schema)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what is read and how it is divided."""
        rules = to_json([self.intervals, self.holdout.model_dump(), self.validation.model_dump(), self.span])
        found = hashlib.sha256(rules)
        labels = (label for path in self.paths for label in label_view.files(path, self.through))
        for path in (*self.paths, *dict.fromkeys(labels)):
            found.update(bytes.fromhex(sha256_file(path)))
        return found.hexdigest()

    @cached_property
    def facts(self) -> dict[str, Any]:
        """Intervals, rows, days and the positive share, in plain JSON; DataError when a part has not both outcomes."""
        seen: dict[Part, tuple[int, int, set[int]]] = {part: self._count(part) for part in ("train", "validation")}
        for part, (rows, positive, _) in seen.items():
            if positive in {0, rows}:
                raise DataError(
                    f"The {'training' if part == 'train' else 'train.validation'} days hold {rows} labelled rows and not both "
                    "outcomes; widen the window (intervals) or change train.validation in the model's params.yaml."
                )
        rows, positive, _ = seen["train"]
        return {
            "intervals": sorted(self.intervals),
            "data_through": max(self.intervals),
            "rows": {"read": sum(pq.read_metadata(path).num_rows for path in self.paths)}
            | {part: seen[part][0] for part in seen},
            "days": {part: len(seen[part][2]) for part in seen},
            "positive_share": positive / rows,
        }

    def _count(self, part: Part) -> tuple[int, int, set[int]]:
        rows, positive, days = 0, 0, set[int]()
        for batch in self.batches(part, ()):
            rows += batch.num_rows
            positive += int(pc.sum(batch.column(spec.current().label)).as_py())
            days |= set(pc.unique(batch.column("day")).to_pylist())
        return rows, positive, days

    def contract(self) -> Contract:
        """The feature contract: the categories are those of the training rows; its ONNX digest is still unknown."""
        model = spec.current()
        values: dict[str, set[str]] = {name: set() for name in model.categories}
        for batch in self.batches("train", model.categories):
            for name, known in values.items():
                known.update(value for value in pc.unique(batch.column(name)).to_pylist() if value)
        features = tuple(
            Feature(name=name, kind="category", categories=tuple(sorted(values[name])))
            if name in model.categories
            else Feature(name=name, kind="number")
            for name in model.features
        )
        return Contract(features=features, label=model.label, onnx_sha256=UNKNOWN)


def wanted_of(columns: Sequence[str] | None) -> list[str]:
    """What is read of a features file: the day, and ``columns`` (by default all inputs of a model)."""
    return list(dict.fromkeys(("day", *(spec.current().features if columns is None else columns))))
