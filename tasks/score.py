"""score: predictions of a landed interval, as they would have been made at each row's cutoff, inside Spark.

The champion is the one the ledger names for the interval; the version before it is scored beside it, as a shadow. Each is scored on
features as its own training had them (docs/adr/0063).
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks import spec
from tasks.core.errors import DataError, run_main, warn
from tasks.core.results import emit
from tasks.landing import landed
from tasks.modelling.model import Contract, load
from tasks.registry import ledger, version_features
from tasks.running import lease
from tasks.scoring import own_features
from tasks.settings.environment import store
from tasks.storage.artefacts import Store, sha256, to_json
from tasks.storage.files import parquet_bytes

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
    from tasks.engines.spark import read, session  # an interval without a model needs no Spark

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
            f"Ledger entry {entry.seq} names no model to score with; put one live: airloop rollback <n> --model {spec.current().name}."
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
                              "previous": None, "predictions": {}, "own_features": {}, "not_scored": {}}  # fmt: skip
    if champion is not None:
        result |= score_with(champion, shadow, record, root, target)
    put(f"predictions/{interval}/scored.json", to_json(result), target)
    return result


def score_with(
    champion: ledger.Entry, shadow: ledger.Entry | None, record: landed.Landed, root: Path, target: Store
) -> dict[str, Any]:
    """Write the predictions of the champion, and of the shadow unless this code cannot make its features.

    Args:
        champion: the ledger's entry of it.
        shadow: likewise, where there is one.
        record: of the landed interval.
        root: the workspace.
        target: the model's part of the store.

    Returns:
        What scored.json says of it.

    Raises:
        DataError: the features or a model are not what is recorded, or this code cannot make the champion's features.
    """
    landed_file = root / f"data/features/{record.interval}.parquet"
    check_features(landed_file, record)
    live = {e.to_version: e for e in (champion, shadow) if e is not None and e.to_version is not None}
    models = {version: read_model(entry, target) for version, entry in live.items()}
    files: dict[int, Path] = {}
    not_scored: dict[str, str] = {}
    for version, entry in live.items():
        try:
            files[version] = features_of(version, entry, models[version], record, root, target)
        except DataError as error:
            if entry is champion:
                raise
            warn(f"{record.interval} is scored without its shadow: {error}")
            not_scored[f"v{version}"] = str(error)
    tables = predict_each(record.interval, files, models)
    names = {v: f"predictions/{record.interval}/v{v}.parquet" for v in tables}
    return {
        "status": "scored", "champion": champion.to_version,
        "previous": shadow.to_version if shadow is not None and shadow.to_version in tables else None,
        "rows": max(table.num_rows for table in tables.values()),
        "predictions": {f"v{v}": put(names[v], parquet_bytes(table), target) for v, table in tables.items()},
        "own_features": {f"v{v}": landed.features_digest(file) for v, file in files.items() if file != landed_file},
        "not_scored": not_scored,
    }  # fmt: skip


def predict_each(interval: str, files: Mapping[int, Path], models: Models) -> dict[int, pa.Table]:
    """Version to its predictions of its file in ``files``; versions of one file in one Spark job."""
    tables: dict[int, pa.Table] = {}
    for file in dict.fromkeys(files.values()):
        tables |= predict(interval, file, {v: models[v] for v, chosen in files.items() if chosen == file})
    return dict(sorted(tables.items()))


def features_of(
    version: int, entry: ledger.Entry, model: tuple[bytes, bytes, str], record: landed.Landed, root: Path, source: Store
) -> Path:
    """Find the features to score a version on, or make them.

    Args:
        version: its number.
        entry: of the ledger, which puts it live.
        model: its files, as ``read_model`` gives them.
        record: of the landed interval.
        root: the workspace.
        source: the model's part of the store.

    Returns:
        The landed file, or one that is made as those of the version's training were.

    Raises:
        DataError: this code cannot make it, or what it is made of is lost or out of date.
    """
    assert entry.evidence is not None  # the ledger's rule
    file = root / f"data/features/{record.interval}.parquet"
    about, names = spec.current(), Contract.parse(model[1]).names
    version_features.require_declared(version, names, about)
    settings = version_features.recorded(version, entry.evidence.run, source, about.name)
    own = own_features.needed(names, settings, own_features.landed_with(record), file)
    return file if own is None else make_own(version, own, record, root, source)


def make_own(version: int, settings: spec.Settings, record: landed.Landed, root: Path, source: Store) -> Path:
    """Make the features of an interval as those of a version's training were made.

    Args:
        version: its number.
        settings: of its training.
        record: of the landed interval.
        root: the workspace.
        source: the model's part of the store.

    Returns:
        The file that was made.
    """
    from tasks.engines.spark import stop  # an interval without a model needs no Spark
    from tasks.features import features

    folder = root / own_features.FOLDER / f"v{version}"
    shutil.rmtree(folder, ignore_errors=True)
    seen = own_features.prepare(record, settings, root, folder, source)
    print(f"{record.interval}: v{version} is scored on features with the settings of its own training", flush=True)
    made = features(record.interval, seen, settings, folder)
    stop()
    return made


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
