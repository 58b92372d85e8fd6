"""features: what could be known of each row at its cutoff, computed by Spark."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from pyspark.sql import DataFrame

from tasks import spec
from tasks.common import params
from tasks.common.errors import ConfigError, run_main
from tasks.common.spark import read, session, size_for, write_single
from tasks.running import lease

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


def features(interval: str, previous: str, settings: Any, root: Path = Path("data")) -> Path:
    """Write ``root/features/<interval>.parquet`` from the kept interval and the tail of ``previous``; returns its path."""
    model = spec.current()
    before = [] if previous == interval else [root / "tail" / previous]
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
    spark.stop()
    return target


def main() -> None:
    """Build the features of one interval."""
    lease.join()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--interval", required=True, help="its key, such as 2013-04")
    interval = parser.parse_args().interval
    settings = params.load()
    if interval not in settings.intervals:
        raise ConfigError(
            f"{interval} is not in the intervals of run.yaml, which are {', '.join(settings.intervals)}; write others with "
            "`airloop render --first ... --last ...`."
        )
    previous = settings.intervals[interval].previous
    target = features(interval, previous, settings.features)
    rows = pq.read_metadata(target).num_rows
    seen = "nothing before it" if previous == interval else f"the tail of {previous}"
    print(f"{interval}: features of {rows:,} rows, looking back on {seen}")


if __name__ == "__main__":
    run_main(main)
