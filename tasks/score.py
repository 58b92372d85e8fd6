"""score: predictions of a landed interval, as they would have been made at each row's cutoff, inside Spark.

The champion is the one the ledger names for the interval; the version before it is scored beside it, as a shadow.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks import spec
from tasks.common import landed, ledger
from tasks.common.artefacts import Store, sha256, to_json
from tasks.common.environment import store
from tasks.common.errors import DataError, run_main
from tasks.common.files import parquet_bytes
from tasks.common.model import load
from tasks.common.results import emit
from tasks.running import lease

SCHEMA = 2
"""Version of scored.json; one without calls its interval a month."""

Batches = Iterator[pa.RecordBatch]
Models = dict[int, tuple[bytes, bytes, str]]
"""Version to ONNX bytes, contract bytes and the sha256 of the former."""


def schema(key: Mapping[str, str]) -> str:
    """Columns of the predictions in Spark's words, for the model's ``key``."""
    columns = {"version": "int", "prediction_id": "string", **key, "probability": "float"}
    return ", ".join(f"{name} {kind}" for name, kind in columns.items())


def prediction_id(interval: str, version: int, key: tuple[Any, ...]) -> str:
    """The id of one row's prediction: says where it is kept, and is the same whenever the interval is scored."""
    text = "|".join(str(part) for part in key)
    return f"{spec.current().name}.{interval}.v{version}.{hashlib.sha256(f'{interval}|v{version}|{text}'.encode()).hexdigest()[:16]}"


def scorer(interval: str, models: Models, key: Sequence[str]) -> Callable[[Batches], Batches]:
    """A function for mapInArrow: batches of features to batches of predictions, one for each row and version.

    Each worker verifies and loads the models itself, with one thread: Spark's partitions are the parallel part.
    """

    def score(batches: Batches) -> Batches:
        loaded = {version: load(*model) for version, model in models.items()}
        for batch in batches:
            table = pa.Table.from_batches([batch])
            keys = list(zip(*(table[name].to_pylist() for name in key), strict=True))
            for version, model in loaded.items():
                scores = np.asarray(model.predict(model.contract.encode(table)), dtype=np.float32)
                yield pa.RecordBatch.from_arrays(
                    [pa.array([version] * len(keys), pa.int32()),
                     pa.array([prediction_id(interval, version, values) for values in keys]),
                     *(batch.column(name) for name in key), pa.array(scores)],
                    names=["version", "prediction_id", *key, "probability"],
                )  # fmt: skip

    return score


def predict(interval: str, features: Path, models: Models) -> dict[int, pa.Table]:
    """Version to its predictions of ``features``, sorted by the key; all versions in one Spark job."""
    from tasks.common.spark import read, session  # an interval without a model needs no Spark

    key = spec.current().key
    spark = session(f"score {interval}")
    # No more partitions than Spark makes of the file: loading a model costs a worker more than scoring an interval.
    rows = read(spark, [features], pq.read_schema(features))
    found = rows.mapInArrow(scorer(interval, models, tuple(key)), schema(key)).toArrow()
    spark.stop()
    order = [(name, "ascending") for name in key]
    tables = {v: found.filter(pc.equal(found["version"], v)).drop_columns(["version"]) for v in models}
    return {version: table.sort_by(order).combine_chunks() for version, table in tables.items()}


def read_model(entry: ledger.Entry, source: Store) -> tuple[bytes, bytes, str]:
    """ONNX bytes, contract bytes and digest of the version that ``entry`` puts live, each verified."""
    evidence = entry.evidence
    if evidence is None:
        raise DataError(
            f"Ledger entry {entry.seq} names no model to score with; put one live: make rollback VERSION=<n>."
        )
    folder = f"models/{evidence.model}"
    onnx = source.read(f"{folder}/model.onnx", evidence.model)
    return onnx, source.read(f"{folder}/contract.json", evidence.contract), evidence.model


def put(name: str, data: bytes, target: Store) -> str:
    """Write ``data`` unless it is there already; returns its sha256."""
    if not (target.exists(name) and target.read(name) == data):
        target.write(name, data)
    return sha256(data)


def score(interval: str, root: Path, target: Store) -> dict[str, Any]:
    """Score ``interval`` of the workspace ``root`` into the store; returns scored.json.

    scored.json is written last, so that it only ever names predictions that are there. Before the first model there is
    nothing to score with, which is recorded too.
    """
    entries = ledger.Ledger(target).entries()
    champion, shadow = ledger.live_at(entries, interval), ledger.previous_at(entries, interval)
    record = landed.read(target, interval)
    if record is None:
        raise DataError(f"{interval} has not landed; run the ingest DAG for it first.")
    result: dict[str, Any] = {"schema": SCHEMA, "interval": interval, "features": record.features, "status": "warming up", "champion": None,
                              "previous": None, "predictions": {}}  # fmt: skip
    if champion is not None:
        features = root / f"data/features/{interval}.parquet"
        check_features(features, record)
        live = {e.to_version: read_model(e, target) for e in (champion, shadow) if e is not None and e.to_version}
        tables = predict(interval, features, live)
        digests = {v: put(f"predictions/{interval}/v{v}.parquet", parquet_bytes(t), target) for v, t in tables.items()}
        result |= {
            "status": "scored", "champion": champion.to_version, "previous": shadow.to_version if shadow else None,
            "rows": max(t.num_rows for t in tables.values()), "predictions": {f"v{v}": d for v, d in digests.items()},
        }  # fmt: skip
    put(f"predictions/{interval}/scored.json", to_json(result), target)
    return result


def check_features(features: Path, record: landed.Landed) -> None:
    """DataError unless ``features`` is the file that the record of the landed interval names."""
    if not features.is_file():
        raise DataError(f"{features} is missing; run the score DAG for {record.interval}, which fetches it.")
    found = landed.features_digest(features)
    if found != record.features:
        raise DataError(
            f"{features} has md5 {found[:12]}..., and {record.interval} landed with {record.features[:12]}...: the interval has "
            f"landed again since. Run the score DAG for {record.interval} again."
        )


def main() -> None:
    """Score one interval."""
    lease.join()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--interval", required=True, help="its key, such as 2013-04")
    interval = parser.parse_args().interval
    result = score(interval, Path(), store())
    if result["status"] == "scored":
        shadow = f", v{result['previous']} beside it" if result["previous"] else ""
        print(f"{interval}: {result['rows']:,} {spec.current().words.rows} scored with v{result['champion']}{shadow}")
    else:
        print(f"{interval}: warming up, no model is live for this interval yet")
    emit(result)


if __name__ == "__main__":
    run_main(main)
