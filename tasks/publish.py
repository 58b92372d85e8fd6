"""publish: a month that passed its stages becomes the month as it stands, for training, scoring and the service."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.common import landed, months, params
from tasks.common.artefacts import Store, sha256, sha256_file
from tasks.common.environment import store
from tasks.common.errors import DataError, run_main
from tasks.common.files import parquet_bytes
from tasks.common.results import emit
from tasks.common.runs import landed_lock, read_run
from tasks.flights.state import state_tables


def put_state(month: str, tables: dict[str, pa.Table], target: Store) -> dict[str, landed.StateFile]:
    """Write each table as Parquet under a name that holds its digest; what is there already is left."""
    files = {}
    for table_name, table in tables.items():
        data = parquet_bytes(table)
        digest = sha256(data)
        name = f"state/{month}-{digest[:12]}-{table_name}.parquet"
        target.create(name, data)
        files[table_name] = landed.StateFile(name=name, sha256=digest)
    return files


def publish(month: str, root: Path, target: Store) -> landed.Landed:
    """Write the record of ``month`` from the workspace at ``root``; DataError when a stage of it has not run."""
    lock = landed_lock(root, month)
    missing = [stage for stage in ("ingest", "validate", "features") if f"{stage}@{month}" not in lock]
    if missing:
        raise DataError(f"{month}: {', '.join(missing)} has not run in {root}; run the ingest DAG for the month.")
    kept = root / "data/kept" / month
    tables = state_tables(pq.read_table(kept / "flights.parquet"), pq.read_table(kept / "weather.parquet"))
    record = landed.Landed(
        month=month,
        previous=params.load(root / "params.yaml").months[month].previous,
        run=read_run(root).key,
        manifest=sha256_file(root / f"data/manifests/{month}.json"),
        features="",
        counts=json.loads((root / f"data/counts/{month}.json").read_text()),
        lock=lock,
        state=put_state(month, tables, target),
    )
    record = record.model_copy(update={"features": record.output("features", f"data/features/{month}.parquet")})
    landed.write(target, record)
    return record


def outdated(month: str, source: Store) -> str:
    """A sentence when the month after ``month`` landed before and looked back on another ``month``, else nothing."""
    records = landed.read_all(source)
    after = months.shift(month, 1)
    return landed.stale_sentence(records, after) if after in records and landed.is_stale(records, after) else ""


def main() -> None:
    """Publish the month of this run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--month", required=True, help="YYYY-MM")
    month = parser.parse_args().month
    record = publish(month, Path(), store())
    flights = record.counts["flights"]
    print(
        f"{month} landed: {flights['landed']:,} rows, {flights['quarantined']} quarantined; features {record.features}"
    )
    if warning := outdated(month, store()):
        print(f"note: {warning}")
    emit({"month": month, "run": record.run, "features": record.features, "counts": flights})


if __name__ == "__main__":
    run_main(main)
