"""Labels as of an interval: what the label files that had landed by then say of each row of a features file.

Labels are files of their own, and the only way to them is here. An outcome may land in a later interval than its row (the model's
`maturity`), and a later line corrects an earlier one; a row without a line has no label.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks import spec
from tasks.core.errors import DataError

LABELS = Path("data/labels")
"""Folder of ``<interval>.parquet`` in a workspace; beside that of the features wherever they are."""

BATCH = 2**17
"""Rows of a features file at a time."""


def files(features: Path, through: str) -> list[Path]:
    """Find the label files that can have an outcome of the rows of a features file.

    Args:
        features: the features file, ``<interval>.parquet``.
        through: last interval that had landed.

    Returns:
        Their paths, oldest first; none for an interval after ``through``.

    Raises:
        DataError: one is not there.
    """
    calendar, interval = spec.current().calendar, features.stem
    folder = features.parent.with_name(LABELS.name)
    last = min(through, calendar.labels_through(interval))
    paths = [folder / f"{key}.parquet" for key in calendar.cadence.span(interval, last)]
    if absent := [path.stem for path in paths if not path.is_file()]:
        raise DataError(f"{folder} lacks {', '.join(absent)}; run `dvc repro` for these intervals first.")
    return paths


def aligned(features: Path, through: str) -> pa.Array:
    """Read the label of each row of a features file, in its order: the newest that had landed, null where there was none.

    The result has a byte a row; of the files, which are sorted by the key, memory holds a stretch at a time. Arguments and errors
    are those of ``files``.
    """
    paths, key = files(features, through), list(spec.current().key)
    with pq.ParquetFile(features) as file:
        batches = file.iter_batches(batch_size=BATCH, columns=key)
        found = [_labels_of(pa.Table.from_batches([batch]), paths) for batch in batches]
    return pa.concat_arrays(found or [pa.array([], pa.int8())])


def _labels_of(rows: pa.Table, paths: Sequence[Path]) -> pa.Array:
    """The label of each of some rows, which have the columns of the key alone."""
    model, key = spec.current(), rows.column_names
    if not paths or not rows.num_rows:
        return pa.nulls(rows.num_rows, pa.int8())
    bounds = pc.min_max(rows[key[0]])
    known = pa.concat_tables([_lines(path, [*key, model.label], bounds) for path in paths]).rename_columns(
        [*key, "_label"]
    )
    if len(paths) > 1:  # the newest last; within a file a key is unique
        known = known.group_by(key, use_threads=False).aggregate([("_label", "last")]).select([*key, "_label_last"])
    known = known.rename_columns([*key, "_label"]).cast(
        pa.schema([*rows.schema.remove_metadata(), ("_label", pa.int8())])
    )
    numbered = rows.append_column("_row", pa.array(range(rows.num_rows), pa.int64()))
    return numbered.join(known, key, join_type="left outer").sort_by("_row")["_label"].combine_chunks()


def _lines(path: Path, columns: list[str], bounds: pa.StructScalar) -> pa.Table:
    """The lines of a label file whose first column is within ``bounds``; what lies outside is not read."""
    low, high = bounds["min"], bounds["max"]
    with pq.ParquetFile(path) as file:
        at = file.schema_arrow.names.index(columns[0])
        statistics = (file.metadata.row_group(n).column(at).statistics for n in range(file.num_row_groups))
        wanted = [
            n
            for n, facts in enumerate(statistics)
            if facts is None or not facts.has_min_max or (facts.min <= high.as_py() and low.as_py() <= facts.max)
        ]
        read = file.read_row_groups(wanted, columns=columns)
    return read.filter(pc.and_(pc.greater_equal(read[columns[0]], low), pc.less_equal(read[columns[0]], high)))
