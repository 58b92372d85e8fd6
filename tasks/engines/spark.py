"""The Spark session of every Spark script: small, without a progress bar, and leaving nothing behind."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from tasks.core.errors import DataError
from tasks.core.urls import hadoop_of
from tasks.engines import jvm
from tasks.storage.artefacts import write_atomic
from tasks.storage.files import copy_parquet, parquet_bytes

SETTINGS = {
    "spark.log.level": "ERROR",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",
    "spark.sql.catalogImplementation": "in-memory",  # no metastore_db beside the script
    # A window's rows stay in memory to this count, then spill; the default of 4096 sends every large group to a sorter.
    "spark.sql.windowExec.buffer.in.memory.threshold": "1000000",
    # Compiling an interval's query as one takes longer than running it; data that is not small turns it on again.
    "spark.sql.codegen.wholeStage": "false",
    "spark.hadoop.mapreduce.fileoutputcommitter.marksuccessfuljobs": "false",
}

SMALL = 256 * 2**20
"""Bytes of Parquet up to which one task is quicker than any exchange between several."""


def session(app: str) -> SparkSession:
    """A session for ``app``: master, cores and memory as spark-submit was given them; without it, local[*] and 1 GB.

    Temporary files of a plain run go to a folder of its own that goes when Python does; spark-submit's go where
    SPARK_LOCAL_DIRS says.
    """
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # or workers run whatever python3 is first on the PATH
    builder = SparkSession.builder.appName(app)
    if "PYSPARK_GATEWAY_PORT" not in os.environ:  # which spark-submit sets for the script it runs
        jvm.configure(os.environ)
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
        folder = tempfile.mkdtemp(prefix="airloop-spark-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        builder = builder.master(os.environ.get("AIRLOOP_SPARK_MASTER", "local[*]"))
        builder = builder.config("spark.driver.memory", "1g").config("spark.local.dir", folder)
        builder = builder.config("spark.sql.warehouse.dir", f"{folder}/warehouse")
    for name, value in SETTINGS.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def stop() -> None:
    """Stop the session, where there is one."""
    if (running := SparkSession.getActiveSession()) is not None:
        running.stop()


def read(spark: SparkSession, paths: Sequence[Path], schema: pa.Schema) -> DataFrame:
    """The rows of these Parquet files; DataError when one is absent or has not the columns of ``schema``.

    Executors on other machines get the rows from the driver.

    Checked here and not left to Spark, which spends a job on finding the schema out, and reads a column that is not there as
    nulls when it is asked to.
    """
    for path in paths:
        if not path.is_file():
            raise DataError(f"{path} is missing; run `dvc repro` for its interval first.")
        found = pq.read_schema(path)
        if wrong := [f.name for f in schema if f.name not in found.names or found.field(f.name).type != f.type]:
            raise DataError(
                f"{path} lacks {', '.join(wrong)}, or has another type there than this code expects; "
                "another version of the code made it. Run `dvc repro` for its interval again."
            )
    kinds = from_arrow_schema(schema)
    if not paths:
        return spark.createDataFrame([], kinds)
    if not sees_files(spark):
        tables = [pq.ParquetFile(path).read(schema.names) for path in paths]
        return spark.createDataFrame(pa.concat_tables(tables), kinds)
    # __globPaths__ is how Spark itself reads what is no pattern: a folder may be called a*b.
    plain = spark.read.option("__globPaths__", "false").schema(kinds)
    return plain.parquet(*(hadoop_of(path.resolve()) for path in paths))


def sees_files(spark: SparkSession) -> bool:
    """Whether executors see this machine's files: where they are part of the driver's process (docs/adr/0006)."""
    return str(spark.sparkContext.master).startswith("local")


def size_for(spark: SparkSession, files: list[Path]) -> bool:
    """Set ``spark`` up for the size of its input; whether that is small, and best done by one task."""
    small = sum(file.stat().st_size for file in files) <= SMALL
    spark.conf.set("spark.sql.adaptive.enabled", str(not small).lower())  # it replans between exchanges: small has none
    spark.conf.set("spark.sql.codegen.wholeStage", str(not small).lower())
    return small


def write_single(frame: DataFrame, order: tuple[str, ...], target: Path, temporary: Path) -> None:
    """Write ``frame`` as one Parquet file ``target``, sorted by ``order``, in one step and without Spark's litter.

    One task writes: an interval is a megabyte or two, and readers want one file of one name. ``temporary`` is a folder on the
    same disk; what a killed run left there is replaced.

    Spark's own file is copied by the writer of all other stages: parquet-mr lists a column's encodings in the order of a
    hash that differs from JVM to JVM, so its bytes change from run to run.
    """
    shutil.rmtree(temporary, ignore_errors=True)
    ordered = frame.coalesce(1).sortWithinPartitions(*order)
    if sees_files(frame.sparkSession):
        spark_file = temporary / "spark"
        ordered.write.parquet(hadoop_of(spark_file.resolve()), compression="none")
        (part,) = spark_file.glob("part-*.parquet")
        copy_parquet(part, temporary / target.name)
    else:
        write_atomic(temporary / target.name, parquet_bytes(ordered.toArrow()))
    target.parent.mkdir(parents=True, exist_ok=True)
    (temporary / target.name).replace(target)
    shutil.rmtree(temporary)


REHEARSAL = """
WITH both AS (SELECT * FROM events UNION ALL SELECT at + 5, k, s, NULL, NULL FROM events WHERE x IS NOT NULL),
one AS (SELECT /*+ COALESCE(1) */ * FROM both),
summed AS (SELECT *, SUM(k) OVER (PARTITION BY s, k ORDER BY at ROWS UNBOUNDED PRECEDING) AS n FROM one)
SELECT summed.at, summed.s, CASE WHEN n > 0 THEN CAST(summed.k AS DOUBLE) / CAST(n AS DOUBLE) END AS r,
  CAST(unix_date(summed.day) % 7 AS TINYINT) AS w
FROM summed LEFT JOIN events ON events.at = summed.at AND events.s = summed.s WHERE summed.k < 6
"""


def _rehearse() -> None:
    """Do a little of all that the Spark scripts do, so that the JVM loads the classes that jvm.prepare archives."""
    spark = session("rehearsal")
    gateway = spark.sparkContext._gateway  # noqa: SLF001 - only the end of its process says that the archive is written
    assert gateway is not None, "this process started the JVM"
    process = gateway.proc
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "source.parquet"), Path(folder, "target.parquet")
        events = spark.range(2000).selectExpr(
            "id AS at", "id % 7 AS k", "CAST(id % 11 AS STRING) AS s", "CAST(id AS DOUBLE) AS x", "DATE'2013-01-01' AS day"
        )  # fmt: skip
        write_single(events, ("at",), source, Path(folder, "one"))
        size_for(spark, [source])
        read(spark, [source], pq.read_schema(source)).coalesce(1).createOrReplaceTempView("events")
        counted = spark.sql(REHEARSAL)
        write_single(counted.mapInArrow(_same, counted.schema), ("at", "s", "r"), target, Path(folder, "two"))
    spark.stop()
    process.stdin.close()
    process.wait()


def _same(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    return batches


if __name__ == "__main__":
    _rehearse()
