"""A stage's output files: canonical Parquet, and files and folders that appear whole."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.storage.artefacts import write_atomic

_CANONICAL: dict[str, Any] = {"compression": "zstd", "version": "2.6"}


def parquet_bytes(table: pa.Table) -> bytes:
    """``table`` as a Parquet file: equal tables give equal bytes.

    zstd halves what snappy leaves and costs nothing at this size; schema metadata (pandas') is dropped, since it says
    more about the writer than about the data.
    """
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(None), buffer, **_CANONICAL)
    return buffer.getvalue()


def copy_parquet(source: Path, target: Path) -> None:
    """Write the rows of ``source`` to ``target`` as ``parquet_bytes`` would, a million rows at a time, and sync it."""
    with pq.ParquetFile(source) as rows, target.open("wb") as file:
        schema = rows.schema_arrow.remove_metadata()
        with pq.ParquetWriter(file, schema, **_CANONICAL) as writer:
            for batch in rows.iter_batches(batch_size=2**20):
                writer.write_batch(batch.replace_schema_metadata(None))
        file.flush()
        os.fsync(file.fileno())


def write_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Make ``path`` a folder of exactly these files; a reader, or a crash, sees all of them or no folder.

    The folder is prepared under one fixed name beside it, so that what a killed run left there is replaced.
    """
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        for name, data in files.items():
            write_atomic(partial / name, data)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)  # on a full disk it would only take up space
        raise
    shutil.rmtree(path, ignore_errors=True)
    partial.rename(path)


def write_file(path: Path, data: bytes) -> None:
    """``write_atomic``, and no unfinished file of an earlier, killed run stays beside ``path``."""
    for left in path.parent.glob(f".{path.name}.*.partial"):
        left.unlink(missing_ok=True)
    write_atomic(path, data)
