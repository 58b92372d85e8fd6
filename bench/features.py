"""The features by Spark and by DuckDB: the same SQL on the same Parquet files, to one sorted Parquet file of equal rows.

    python -m bench.features ENGINE OUTPUT REPEATS DATA...     one engine, in a process of its own; prints JSON

DATA are workspaces' `data` folders, one an interval; the last also gives the tail of the interval before, where there is one.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bench.frame import Row, run
from bench.home import INTERVALS, Home
from tasks import spec
from tasks.settings import params
from tasks.settings.environment import CODE, environment
from tasks.storage.artefacts import sha256
from tasks.storage.files import parquet_bytes

ENGINES = ("spark", "duckdb")


def measure(home: Home, repeats: int) -> list[Row]:
    """Rates of both engines, warm, for one interval and for all at once; ValueError unless their tables are equal."""
    rows = []
    for name, intervals in (("one interval", INTERVALS[-1:]), (f"{len(INTERVALS)} intervals at once", INTERVALS)):
        with tempfile.TemporaryDirectory() as folder:
            seen = {
                engine: _in_a_process(engine, folder, repeats, [home.ingested(m) / "data" for m in intervals])
                for engine in ENGINES
            }
        digests = {engine: found["digest"] for engine, found in seen.items()}
        if len(set(digests.values())) != 1:
            raise ValueError(f"the engines' features of {name} differ: {digests}")
        for engine, found in seen.items():
            more = {k: found[k] for k in ("rows", "peak_mb", "cpu_s", "start_s")}
            values = tuple(found["rows"] / seconds for seconds in found["seconds"])
            rows.append(
                Row(f"{engine}, {name}", "rows/s", values, f"warm; digest {found['digest'][:12]} of both", more)
            )
    return rows


def _in_a_process(engine: str, folder: str, repeats: int, data: list[Path]) -> dict[str, Any]:
    argv: list[str | Path] = [
        sys.executable,
        "-m",
        "bench.features",
        engine,
        f"{folder}/{engine}.parquet",
        str(repeats),
        *data,
    ]
    usage = run(argv, CODE)
    found: dict[str, Any] = json.loads(usage.output.splitlines()[-1])
    return found | {"peak_mb": usage.peak_mb, "cpu_s": usage.cpu_s}


def inputs(data: list[Path]) -> dict[str, list[Path]]:
    """Files of each view that the features' SQL reads."""
    tails = sorted((data[0] / "tail").glob("*"))
    before = [tail for tail in tails if tail.name < (data[0].parent.name.removeprefix("ingest-"))]
    kept = [max((folder / "kept").glob("*")) for folder in data]
    folders = {"interval": kept, "before": before, "all": [*kept, *before]}
    return {
        name: [folder / f"{view.table}.parquet" for folder in folders[view.span]]
        for name, view in spec.current().views.items()
    }


def spark(files: dict[str, list[Path]], settings: Any, target: Path) -> Callable[[], object]:
    """Work to be timed: read, compute, write, in a running session."""
    from tasks.engines.spark import read, session, size_for, write_single
    from tasks.features import build_features

    running, model = session("bench features"), spec.current()

    def work() -> None:
        views = {name: read(running, files[name], model.tables[view.table].kept) for name, view in model.views.items()}
        small = size_for(running, [file for some in files.values() for file in some])
        frame = build_features(views, settings, one_task=small)
        write_single(frame, tuple(model.key), target, target.with_suffix(".partial"))

    return work


def duckdb(files: dict[str, list[Path]], settings: Any, target: Path) -> Callable[[], object]:
    """The same in DuckDB, on all cores."""
    import duckdb as engine

    model, connection = spec.current(), engine.connect()
    connection.execute(model.duckdb_macros)
    for name, paths in files.items():
        source = f"read_parquet({[str(p) for p in paths or next(iter(files.values()))]})"
        connection.execute(f"CREATE VIEW {name} AS SELECT * FROM {source}{'' if paths else ' WHERE false'}")  # noqa: S608 - our own names
    query = f"SELECT * FROM ({model.features_sql(settings, '')}) ORDER BY {', '.join(model.key)}"  # noqa: S608 - our own text
    return lambda: connection.execute(f"COPY ({query}) TO '{target}' (FORMAT parquet, COMPRESSION zstd)")


def digest(table: pa.Table) -> str:
    """Of the names, types and values in order; whether a column says that it has no nulls is the writer's habit."""
    schema = pa.schema([field.with_nullable(True) for field in table.schema])
    return sha256(parquet_bytes(table.replace_schema_metadata(None).cast(schema).combine_chunks()))


def main() -> None:
    """Measure one engine."""
    engine, output, repeats, *folders = sys.argv[1:]
    target, begun, seconds = Path(output), time.perf_counter(), []
    settings = params.of_model(CODE, environment().model).features
    work = {"spark": spark, "duckdb": duckdb}[engine](inputs([Path(f) for f in folders]), settings, target)
    work()
    started = time.perf_counter() - begun
    for _ in range(int(repeats)):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    table = pq.read_table(target)
    print(json.dumps({"rows": table.num_rows, "digest": digest(table), "seconds": seconds, "start_s": started}))


if __name__ == "__main__":
    main()
