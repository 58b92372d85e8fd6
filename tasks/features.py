"""features: what could be known of each row at its cutoff, computed by Spark."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from pyspark.sql import DataFrame

from tasks import spec
from tasks.core import results
from tasks.core.errors import AirloopError, ConfigError, run_main, warn
from tasks.core.results import Interval, Status
from tasks.engines.spark import read, session, size_for, stop, write_single
from tasks.running import lease
from tasks.settings import params
from tasks.storage import lists

ONE_TASK = "/*+ COALESCE(1) */"


def build_features(views: Mapping[str, DataFrame], settings: Any, *, one_task: bool = False) -> DataFrame:
    """One row of features for each row of the model's ``rows``, in no particular order (docs/data-contracts.md).

    Args:
        views: what the features' SQL reads, by name.
        settings: the model's section ``features``.
        one_task: the rows are few, and sorting them in one task is quicker than seven exchanges between several.
    """
    for name, view in views.items():
        view.createOrReplaceTempView(name)
    running = next(iter(views.values())).sparkSession
    return running.sql(spec.current().features_sql(settings, ONE_TASK if one_task else ""))


def features(interval: str, seen: Sequence[str], settings: Any, root: Path = Path("data")) -> Path:
    """Build the features of one interval with Spark, whose session stays open.

    Args:
        interval: its key.
        seen: intervals whose tails it looks back on.
        settings: the model's section ``features``.
        root: folder of ``kept/``, ``tail/`` and ``features/``.

    Returns:
        The file that was written.
    """
    model = spec.current()
    before = [root / "tail" / each for each in seen]
    folders = {"interval": [root / "kept" / interval], "before": before, "all": [root / "kept" / interval, *before]}
    spark = session(f"features {interval}")
    files = {
        name: [folder / f"{view.table}.parquet" for folder in folders[view.span]] for name, view in model.views.items()
    }
    views = {name: read(spark, files[name], model.tables[view.table].kept) for name, view in model.views.items()}
    small = size_for(spark, [file for some in files.values() for file in some])
    frame = build_features(views, settings, one_task=small)
    target = root / "features" / f"{interval}.parquet"
    # Nothing is cached: each input is read by a few narrow scans, which cost less than keeping its rows.
    write_single(frame, tuple(model.key), target, root / f".features-{interval}.partial")
    return target


def build(interval: str) -> None:
    """Build the features of one interval of run.yaml, and say so.

    Raises:
        ConfigError: run.yaml does not have it.
        DataError: what it reads is not as it should be.
    """
    settings = params.load()
    if interval not in settings.intervals:
        raise ConfigError(
            f"{interval} is not in the intervals of run.yaml, which are {', '.join(settings.intervals)}; write others with "
            "`airloop render --first ... --last ...`."
        )
    listed = lists.read(settings.intervals[interval].sees, Path())
    lists.require(listed, Path())
    seen = sorted({Path(path).parent.name for path in listed})
    target = features(interval, seen, settings.features)
    rows = pq.read_metadata(target).num_rows
    print(f"{interval}: features of {rows:,} rows, looking back on {_named(seen)}", flush=True)


def build_each(intervals: Sequence[str]) -> results.Result:
    """Build the features of several intervals, of which one that is refused does not fail the others."""
    ends = {}
    for interval in intervals:
        try:
            build(interval)
            ends[interval] = Interval(Status.DONE)
        except AirloopError as error:
            ends[interval] = Interval(error.status, str(error))
            warn(f"{interval}: {error}")
    return results.merge(ends, {})


def main() -> None:
    """Build the features of one interval, or of several in one Spark session."""
    lease.join()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--interval", required=True, action="append", help="its key, such as 2013-04; more than once for several"
    )
    intervals = parser.parse_args().interval
    try:
        if len(intervals) == 1:
            build(intervals[0])
        else:
            _end(build_each(intervals))
    finally:
        stop()


def _end(result: results.Result) -> None:
    results.write(result)
    if result.status is not Status.DONE:
        sys.exit(result.exit_code)


def _named(seen: Sequence[str]) -> str:
    if len(seen) < 3:
        return " and ".join(seen) or "nothing before it"
    return f"the {len(seen)} intervals from {seen[0]} to {seen[-1]}"


if __name__ == "__main__":
    run_main(main)
