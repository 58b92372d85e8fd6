"""Brings one interval from the landing zone into the workspace: verified, typed, sorted, byte-equal when done again."""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa

from tasks import spec
from tasks.core.errors import DataError, Unavailable, run_main
from tasks.landing.landing_zone import Entry, Manifest, land_again, parse_manifest, read
from tasks.settings.environment import landing
from tasks.storage.artefacts import sha256
from tasks.storage.files import parquet_bytes, write_folder

MAX_CELL = 10_000
"""Characters of a cell; one that is longer spoils its row. The longest of the example has eight."""


def ingest(interval: str, manifest: Manifest) -> dict[str, pa.Table]:
    """All landed tables of ``interval``, typed and in canonical order; DataError when a file is not as in ``manifest``."""
    return {table: _ingest_one(interval, table, manifest) for table in spec.current().tables}


def parse_landed(data: bytes, entry: Entry, columns: Sequence[str], where: str) -> tuple[pd.DataFrame, pd.Series]:
    """``parse`` of a landed file that is what its manifest entry says; DataError says what it is instead."""
    verify(data, entry, where)
    cells, notes = parse(decompress(data, where), columns, where)
    if len(cells) != entry.rows:
        raise DataError(f"{where} has {len(cells):,} rows, its manifest says {entry.rows:,}")
    return cells, notes


def verify(data: bytes, entry: Entry, where: str) -> None:
    """Raise Unavailable unless ``data`` is what the manifest says, byte for byte.

    A feed that lands a correction writes the files before the manifest, so this may be no more than the moment between.
    """
    if len(data) != entry.bytes:
        raise Unavailable(
            f"{where} has {len(data):,} bytes, its manifest says {entry.bytes:,}: it was changed after it landed"
        )
    if (got := sha256(data)) != entry.sha256:
        raise Unavailable(f"{where} has sha256 {got}, its manifest says {entry.sha256}: it was changed after it landed")


def decompress(data: bytes, where: str) -> str:
    """The text in a gzip file. Bytes that are not UTF-8 become U+FFFD, so that they spoil their row and not the interval."""
    try:
        return gzip.decompress(data).decode("utf-8-sig", errors="replace")
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{where} is not a whole gzip file ({error})") from None


def parse(text: str, columns: Sequence[str], where: str) -> tuple[pd.DataFrame, pd.Series]:
    """The wanted columns of a CSV as text, and a note on each row with too many or few cells, or a huge one ("" on others).

    Such a row is padded or cut: it is bad, but it landed, and must be counted.
    """
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # a huge cell is for the note, not for the reader
    try:
        header, *rows = (row for row in csv.reader(io.StringIO(text, newline="")) if row)
    except ValueError:
        raise DataError(f"{where} is empty") from None
    except csv.Error as error:
        raise DataError(f"{where} is not CSV ({error})") from None
    if missing := [name for name in columns if name not in header]:
        raise DataError(f"{where} lacks the column(s) {', '.join(missing)}; it has {', '.join(header)}")
    if twice := sorted({name for name in header if name and header.count(name) > 1}):
        raise DataError(
            f"{where} names the column(s) {', '.join(twice)} more than once; which one is meant is not said"
        )
    width = len(header)
    notes = ["" if len(row) == width else f"cells='{len(row)} instead of {width}'; " for row in rows]
    for at, row in enumerate(rows):
        notes[at] += "".join(_cut(row, header))
    places = {name: header.index(name) for name in columns}
    cells = {name: [row[at] if at < len(row) else "" for row in rows] for name, at in places.items()}
    return pd.DataFrame(cells, dtype=object), pd.Series(notes, dtype=object)


def _cut(row: list[str], header: Sequence[str]) -> Iterator[str]:
    """Cut the cells of ``row`` that are longer than MAX_CELL; yields a note on each."""
    for at, cell in enumerate(row):
        if len(cell) > MAX_CELL:
            row[at] = cell[:MAX_CELL]
            name = header[at] if at < len(header) else f"cell {at + 1}"
            yield f"cells='{name} of {len(cell):,} characters'; "


def in_order(table: pa.Table, key: Sequence[str]) -> pa.Table:
    """``table`` sorted by ``key`` and then by every other column, so that the landed order cannot show."""
    rest = [name for name in table.column_names if name not in key]
    return table.sort_by([(name, "ascending") for name in (*key, *rest)]).combine_chunks()


def main() -> None:
    """Ingest the landed files of --interval into data/raw/<interval>/."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--interval", required=True, help="its key, such as 2013-04")
    interval = parser.parse_args().interval
    spec.current().cadence.check(interval)
    tables = ingest(interval, _manifest(interval))
    write_folder(
        Path(f"data/raw/{interval}"), {f"{name}.parquet": parquet_bytes(table) for name, table in tables.items()}
    )
    print(f"{interval}: " + ", ".join(f"{table.num_rows:,} {name}" for name, table in tables.items()) + " ingested")


def _ingest_one(interval: str, table: str, manifest: Manifest) -> pa.Table:
    name = f"{table}.csv.gz"
    where = landing().uri(f"{interval}/{name}")
    entry = manifest.files.get(name)
    if entry is None:
        raise DataError(f"{where} is not in its manifest. {land_again(interval)}")
    model = spec.current()
    declared = model.tables[table]
    data = read(interval, name)  # once: what is verified is what is used
    try:
        cells, notes = parse_landed(data, entry, declared.feed, where)
    except DataError as error:
        raise DataError(f"{error}. {land_again(interval)}") from None
    except Unavailable as error:
        raise Unavailable(
            f"{error}. If a correction is landing, the next try takes it in; if it is damaged: {land_again(interval)}"
        ) from None
    if cells.empty and not declared.may_be_empty:
        raise DataError(
            f"{where} has a header and no rows, and the table {table} is not declared `may_be_empty`. {land_again(interval)}"
        )
    return in_order(model.typed(table, cells, notes), declared.order)


def _manifest(interval: str) -> Manifest:
    path = Path(f"data/manifests/{interval}.json")
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DataError(
            f"{path.resolve()} is missing; run python tasks/manifest.py --interval {interval} first (dvc repro does)."
        ) from None
    return parse_manifest(data, interval, str(path))


if __name__ == "__main__":
    run_main(main)
