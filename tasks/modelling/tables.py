"""Feature tables of several intervals, with their labels, and the days that are kept out of training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks import spec
from tasks.core.errors import DataError
from tasks.modelling import label_view
from tasks.settings.value_types import DayRule

FEATURES = Path("data/features")
"""Folder of ``<interval>.parquet`` in a workspace."""
INTERVAL = "_interval"
"""Column that `read_features` adds: the interval that a row landed in."""


def paths_of(intervals: Iterable[str], folder: Path = FEATURES) -> list[Path]:
    """Feature files of ``intervals``, oldest first; DataError names the intervals that are not there."""
    paths = [folder / f"{interval}.parquet" for interval in sorted(intervals)]
    if absent := [path.stem for path in paths if not path.is_file()]:
        raise DataError(f"{folder} lacks {', '.join(absent)}; run `dvc repro` for these intervals first.")
    return paths


def read_features(
    intervals: Iterable[str],
    columns: Sequence[str] | None = None,
    folder: Path = FEATURES,
    *,
    labels_through: str | None = None,
    keyed: bool = False,
) -> pa.Table:
    """Feature rows of some intervals, oldest first.

    Args:
        intervals: their keys.
        columns: those to read, all by default; the label may be one.
        folder: of the files.
        labels_through: last interval whose labels count, which are the last column; None reads no labels.
        keyed: whether each row gets its interval, as the column INTERVAL.

    Raises:
        DataError: an interval is not there, or they do not fit together.
    """
    paths = paths_of(intervals, folder)
    try:
        tables = [_read(path, columns, labels_through) for path in paths]
        if keyed:
            tables = [
                t.append_column(INTERVAL, pa.array([p.stem] * len(t), pa.string()))
                for t, p in zip(tables, paths, strict=True)
            ]
        return pa.concat_tables(tables)
    except pa.ArrowInvalid as error:
        raise DataError(
            f"{folder} holds intervals that do not fit together: {error}. Build their features again."
        ) from None


def _read(path: Path, columns: Sequence[str] | None, labels_through: str | None) -> pa.Table:
    if labels_through is None:
        return pq.read_table(path, columns=columns)
    label = spec.current().label
    features = pq.read_table(path, columns=columns and [name for name in columns if name != label])
    return features.append_column(label, label_view.aligned(path, labels_through))


def labelled(table: pa.Table, label: str) -> pa.Table:
    """Rows whose outcome is known."""
    return table.filter(pc.is_valid(table[label]))


def on_days(days: pa.ChunkedArray | npt.NDArray[Any], rule: DayRule) -> npt.NDArray[np.bool_]:
    """Whether each day number belongs to ``rule``."""
    return np.asarray(np.asarray(days) % rule.every == rule.remainder)


def held_out(table: pa.Table, rule: DayRule) -> pa.Table:
    """Rows of the days that no model trains or stops on."""
    return table.filter(pa.array(on_days(table["day"], rule)))
