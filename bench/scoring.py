"""Batch scoring: tasks/score.py's mapInArrow beside a plain ONNX Runtime loop and MLflow's spark_udf, one model, same rows.

    python -m bench.scoring ENGINE FOLDER REPEATS     one engine, in a process of its own; prints JSON

MLflow's takes the finished float32 inputs, which is the easier task; ours encodes the features, and makes prediction ids.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.frame import Row, run
from bench.home import LAST, Home
from bench.online import save_for_mlflow
from tasks import spec
from tasks.modelling.model import Contract, load
from tasks.settings.environment import CODE

ROWS = 1_000_000
FILES = 8
BATCH = 10_000
"""Spark's default for Arrow batches; the loop's too."""
NOTES = {
    "loop": "encode and predict, one core, Parquet to array",
    "loop_ids": "the same with keys and prediction ids: all that the Spark job does, without Spark",
    "spark": "mapInArrow on all cores, as tasks/score.py does it",
    "spark_bare": "mapInArrow on all cores, encode and predict, no ids: the loop's work, and more than MLflow's",
    "mlflow": "mlflow.pyfunc.spark_udf on all cores, on inputs encoded beforehand, no ids",
}


def measure(home: Home, repeats: int) -> list[Row]:
    """Rows/s of each way."""
    with tempfile.TemporaryDirectory() as folder:
        _lay_out(home, Path(folder))
        rows = []
        for engine, note in NOTES.items():
            argv = [sys.executable, "-m", "bench.scoring", engine, folder, str(repeats)]
            usage = run(argv, CODE)
            found = json.loads(usage.output.splitlines()[-1])
            more = {"rows": ROWS, "peak_mb": usage.peak_mb, "cpu_s": usage.cpu_s, "mean": found["mean"]}
            rows.append(Row(engine, "rows/s", tuple(ROWS / s for s in found["seconds"]), note, more))
    if len({round(row.more["mean"], 5) for row in rows}) != 1:
        raise ValueError(f"the ways of scoring disagree: mean probability { ({r.name: r.more['mean'] for r in rows}) }")
    return rows


def _lay_out(home: Home, folder: Path) -> None:
    """The interval's rows over and over, as features and as encoded inputs, and the model for both."""
    table = pq.read_table(home.ingested(LAST) / f"data/features/{LAST}.parquet")
    onnx, contract, digest = home.model()
    (folder / "model.onnx").write_bytes(onnx)
    (folder / "contract.json").write_bytes(contract)
    (folder / "digest").write_text(digest)
    save_for_mlflow(onnx, folder / "mlflow")
    x = Contract.parse(contract).encode(table)
    encoded = pa.table({name: x[:, i] for i, name in enumerate(spec.current().features)})
    indices = np.arange(ROWS) % table.num_rows
    for name, source in (("features", table), ("encoded", encoded)):
        (folder / name).mkdir()
        for number, part in enumerate(np.array_split(indices, FILES)):
            pq.write_table(source.take(part), folder / name / f"{number}.parquet", compression="zstd")


def _model(folder: Path) -> tuple[bytes, bytes, str]:
    return (
        (folder / "model.onnx").read_bytes(),
        (folder / "contract.json").read_bytes(),
        (folder / "digest").read_text(),
    )


def _batches(folder: Path) -> Iterator[pa.RecordBatch]:
    for path in sorted((folder / "features").glob("*.parquet")):
        yield from pq.ParquetFile(path).iter_batches(BATCH)


def loop(folder: Path) -> Callable[[], float]:
    """Work that returns the mean probability: plain ONNX Runtime."""
    model = load(*_model(folder))
    return lambda: float(np.concatenate([model.score(batch) for batch in _batches(folder)]).mean(dtype=np.float64))


def loop_ids(folder: Path) -> Callable[[], float]:
    """The function that Spark's workers run, without Spark."""
    from tasks.score import scorer

    key = spec.current().key
    score = scorer(LAST, {1: _model(folder)}, tuple(key))
    return lambda: float(
        np.concatenate([b.column("probability").to_numpy() for b in score(_batches(folder))]).mean(dtype=np.float64)
    )


def spark(folder: Path) -> Callable[[], float]:
    """mapInArrow, every column of the result made."""
    from tasks.engines.spark import session
    from tasks.score import schema, scorer

    key = spec.current().key
    running = session("bench scoring")

    def work() -> float:
        frame = running.read.parquet(str(folder / "features")).mapInArrow(
            scorer(LAST, {1: _model(folder)}, tuple(key)), schema(key)
        )
        return _written(frame, "probability", folder / "spark.out")

    return work


def spark_bare(folder: Path) -> Callable[[], float]:
    """MapInArrow that gives the probability and nothing else."""
    from tasks.engines.spark import session

    running, parts = session("bench scoring"), _model(folder)

    def probabilities(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        model = load(*parts)
        for batch in batches:
            yield pa.RecordBatch.from_arrays([pa.array(model.score(batch))], names=["probability"])

    def work() -> float:
        frame = running.read.parquet(str(folder / "features")).mapInArrow(probabilities, "probability float")
        return _written(frame, "probability", folder / "bare.out")

    return work


def mlflow(folder: Path) -> Callable[[], float]:
    """spark_udf on the columns as one struct, which MLflow turns into the model's matrix."""
    from mlflow.pyfunc import spark_udf
    from pyspark.sql.functions import struct

    from tasks.engines.spark import session

    running = session("bench scoring")
    predict = spark_udf(running, str(folder / "mlflow"), result_type="probabilities array<float>", env_manager="local")

    def work() -> float:
        frame = running.read.parquet(str(folder / "encoded"))
        scored = frame.select(predict(struct(*spec.current().features))["probabilities"][1].alias("probability"))
        return _written(scored, "probability", folder / "mlflow.out")

    return work


def _written(frame: Any, column: str, target: Path) -> float:
    """Write the result, as a job would; the mean of ``column`` is read back."""
    shutil.rmtree(target, ignore_errors=True)
    frame.write.parquet(str(target))
    return float(pq.read_table(target, columns=[column])[column].to_numpy().mean(dtype=np.float64))


def main() -> None:
    """Measure one way of scoring: once to warm up, then ``repeats`` times."""
    engine, folder, repeats = sys.argv[1:]
    work = {"loop": loop, "loop_ids": loop_ids, "spark": spark, "spark_bare": spark_bare, "mlflow": mlflow}[engine](
        Path(folder)
    )
    mean, seconds = work(), []
    for _ in range(int(repeats)):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"mean": mean, "seconds": seconds}))


if __name__ == "__main__":
    main()
