"""publish: an interval that passed its stages becomes the current one, for training, scoring and the service."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tasks import spec
from tasks.core.errors import DataError, Skip, run_main
from tasks.core.results import emit
from tasks.landing import landed, landed_index
from tasks.landing.landing_zone import fetch_manifest, manifest_bytes
from tasks.running.runs import landed_lock, read_run
from tasks.settings import params
from tasks.settings.environment import store, trigger
from tasks.storage.artefacts import Store, sha256, sha256_file
from tasks.storage.files import parquet_bytes
from tasks.storage.state_file import StateFile


def put_state(interval: str, tables: dict[str, pa.Table], target: Store) -> dict[str, StateFile]:
    """Write each table as Parquet under a name that holds its digest; what is there already is left."""
    files = {}
    for table_name, table in tables.items():
        data = parquet_bytes(table)
        digest = sha256(data)
        name = f"state/{interval}-{digest[:12]}-{table_name}.parquet"
        target.create(name, data)
        files[table_name] = StateFile(name=name, sha256=digest)
    return files


def publish(interval: str, root: Path, target: Store) -> landed.Landed:
    """Write the record of ``interval`` from the workspace at ``root``.

    Raises:
        DataError: a stage of it has not run.
        Skip: other data have landed since this run read the interval, and some are published.
    """
    lock = landed_lock(root, interval)
    missing = [stage for stage in ("ingest", "validate", "labels", "features") if f"{stage}@{interval}" not in lock]
    if missing:
        raise DataError(f"{interval}: {', '.join(missing)} has not run in {root}; run the ingest DAG for the interval.")
    kept = root / "data/kept" / interval
    model = spec.current()
    tables = model.online.state_tables({table: pq.read_table(kept / f"{table}.parquet") for table in model.tables})
    record = landed.Landed(
        interval=interval,
        previous=params.load(root).intervals[interval].previous,
        run=read_run(root).key,
        manifest=sha256_file(root / f"data/manifests/{interval}.json"),
        features="",
        counts=json.loads((root / f"data/counts/{interval}.json").read_text()),
        lock=lock,
        state=put_state(interval, tables, target),
    )
    record = record.model_copy(update={"features": record.output("features", f"data/features/{interval}.parquet")})
    if not landed.publish(target, record, lambda: _landed_now(record)):
        raise Skip(
            f"{interval}: other data have landed since run {record.run} read them, so what is published stays. The run that "
            f"read the newer data publishes them; if there is none: {trigger('ingest', interval)}."
        )
    return record


def _landed_now(record: landed.Landed) -> str:
    """Digest of the manifest in the landing zone; that of ``record`` where a feed has cleared the interval away."""
    try:
        return sha256(manifest_bytes(fetch_manifest(record.interval)))
    except DataError:
        return record.manifest


def stale(interval: str, source: Store) -> list[str]:
    """Of ``interval`` and the one after it, those to take in again.

    They were built on another previous interval than has landed now, as the interval itself can be: the one before may have landed
    again while this run worked. The one after it may also be of an older version, which landed no labels.
    """
    records, after = landed_index.read(source), spec.current().cadence.shift(interval, 1)
    found = [each for each in (interval, after) if each in records and landed.is_stale(records, each)]
    return found or [after for each in (after,) if each in records and records[each].labels is None]


def main() -> None:
    """Publish the interval of this run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--interval", required=True, help="its key, such as 2013-04")
    interval = parser.parse_args().interval
    record = publish(interval, Path(), store())
    counts = record.counts[spec.current().rows]
    print(
        f"{interval} landed: {counts['landed']:,} rows, {counts['quarantined']} quarantined; features {record.features}"
    )
    again = stale(interval, store())
    if again:
        print(
            f"note: {', '.join(again)} looked back on data that have landed again since, or came without labels; Airflow takes it up "
            "again by itself"
        )
    emit({"interval": interval, "run": record.run, "features": record.features, "counts": counts, "again": again})


if __name__ == "__main__":
    run_main(main)
