"""Feature tables of several months, and the days that are kept out of training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.common.errors import DataError
from tasks.common.params import DayRule

FEATURES = Path("data/features")
"""Folder of ``<month>.parquet`` in a workspace."""


def paths_of(months: Iterable[str], folder: Path = FEATURES) -> list[Path]:
    """Feature files of ``months``, oldest first; DataError names the months that are not there."""
    paths = [folder / f"{month}.parquet" for month in sorted(months)]
    if absent := [path.stem for path in paths if not path.is_file()]:
        raise DataError(f"{folder} lacks {', '.join(absent)}; run `dvc repro` for these months first.")
    return paths


def read_features(months: Iterable[str], columns: Sequence[str] | None = None, folder: Path = FEATURES) -> pa.Table:
    """Feature rows of ``months``, oldest first; DataError names the months that are not there."""
    paths = paths_of(months, folder)
    try:
        return pa.concat_tables([pq.read_table(path, columns=columns) for path in paths])
    except pa.ArrowInvalid as error:
        raise DataError(
            f"{folder} holds months that do not fit together: {error}. Build their features again."
        ) from None


def labelled(table: pa.Table, label: str) -> pa.Table:
    """Rows whose outcome is known."""
    return table.filter(pc.is_valid(table[label]))


def on_days(days: pa.ChunkedArray | npt.NDArray[Any], rule: DayRule) -> npt.NDArray[np.bool_]:
    """Whether each day number belongs to ``rule``."""
    return np.asarray(np.asarray(days) % rule.every == rule.remainder)


def held_out(table: pa.Table, rule: DayRule) -> pa.Table:
    """Rows of the days that no model trains or stops on."""
    return table.filter(pa.array(on_days(table["day"], rule)))
