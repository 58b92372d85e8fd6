"""score: predictions of a landed month, as they would have been made at each row's cutoff, inside Spark.

The champion is the one the ledger names for the month; the version before it is scored beside it, as a shadow.
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

Batches = Iterator[pa.RecordBatch]
Models = dict[int, tuple[bytes, bytes, str]]
"""Version to ONNX bytes, contract bytes and the sha256 of the former."""


def schema(key: Mapping[str, str]) -> str:
    """Columns of the predictions in Spark's words, for the model's ``key``."""
    columns = {"version": "int", "prediction_id": "string", **key, "probability": "float"}
    return ", ".join(f"{name} {kind}" for name, kind in columns.items())


def prediction_id(month: str, version: int, key: tuple[Any, ...]) -> str:
    """The id of one row's prediction: says where it is kept, and is the same whenever the interval is scored."""
    text = "|".join(str(part) for part in key)
    return f"{spec.current().name}.{month}.v{version}.{hashlib.sha256(f'{month}|v{version}|{text}'.encode()).hexdigest()[:16]}"


def scorer(month: str, models: Models, key: Sequence[str]) -> Callable[[Batches], Batches]:
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
                     pa.array([prediction_id(month, version, values) for values in keys]),
                     *(batch.column(name) for name in key), pa.array(scores)],
                    names=["version", "prediction_id", *key, "probability"],
                )  # fmt: skip

    return score


def predict(month: str, features: Path, models: Models) -> dict[int, pa.Table]:
    """Version to its predictions of ``features``, sorted by the key; all versions in one Spark job."""
    from tasks.common.spark import read, session  # a month without a model needs no Spark

    key = spec.current().key
    spark = session(f"score {month}")
    # No more partitions than Spark makes of the file: loading a model costs a worker more than scoring a month.
    rows = read(spark, [features], pq.read_schema(features))
    found = rows.mapInArrow(scorer(month, models, tuple(key)), schema(key)).toArrow()
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


def score(month: str, root: Path, target: Store) -> dict[str, Any]:
    """Score ``month`` of the workspace ``root`` into the store; returns scored.json.

    scored.json is written last, so that it only ever names predictions that are there. Before the first model there is
    nothing to score with, which is recorded too.
    """
    entries = ledger.Ledger(target).entries()
    champion, shadow = ledger.live_at(entries, month), ledger.previous_at(entries, month)
    record = landed.read(target, month)
    if record is None:
        raise DataError(f"{month} has not landed; run the ingest DAG for it first.")
    result: dict[str, Any] = {"month": month, "features": record.features, "status": "warming up", "champion": None,
                              "previous": None, "predictions": {}}  # fmt: skip
    if champion is not None:
        features = root / f"data/features/{month}.parquet"
        check_features(features, record)
        live = {e.to_version: read_model(e, target) for e in (champion, shadow) if e is not None and e.to_version}
        tables = predict(month, features, live)
        digests = {v: put(f"predictions/{month}/v{v}.parquet", parquet_bytes(t), target) for v, t in tables.items()}
        result |= {
            "status": "scored", "champion": champion.to_version, "previous": shadow.to_version if shadow else None,
            "rows": max(t.num_rows for t in tables.values()), "predictions": {f"v{v}": d for v, d in digests.items()},
        }  # fmt: skip
    put(f"predictions/{month}/scored.json", to_json(result), target)
    return result


def check_features(features: Path, record: landed.Landed) -> None:
    """DataError unless ``features`` is the file that the record of the landed month names."""
    if not features.is_file():
        raise DataError(f"{features} is missing; run the score DAG for {record.month}, which fetches it.")
    found = landed.features_digest(features)
    if found != record.features:
        raise DataError(
            f"{features} has md5 {found[:12]}..., and {record.month} landed with {record.features[:12]}...: the month has "
            f"landed again since. Run the score DAG for {record.month} again."
        )


def main() -> None:
    """Score one month."""
    lease.join()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--month", required=True, help="YYYY-MM")
    month = parser.parse_args().month
    result = score(month, Path(), store())
    if result["status"] == "scored":
        shadow = f", v{result['previous']} beside it" if result["previous"] else ""
        print(f"{month}: {result['rows']:,} {spec.current().words.rows} scored with v{result['champion']}{shadow}")
    else:
        print(f"{month}: warming up, no model is live for this month yet")
    emit(result)


if __name__ == "__main__":
    run_main(main)
