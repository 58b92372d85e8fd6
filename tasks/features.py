"""features: what could be known of each flight three hours before its scheduled hour, computed by Spark."""

from __future__ import annotations

import argparse
from pathlib import Path

import pyarrow.parquet as pq
from pyspark.sql import DataFrame

from tasks.common import params
from tasks.common.errors import ConfigError, run_main
from tasks.common.params import FeatureParams
from tasks.common.spark import read, session, size_for, write_single
from tasks.flights.definitions import KEY
from tasks.flights.features_sql import features_sql
from tasks.flights.schema import KEPT

ONE_TASK = "/*+ COALESCE(1) */"


def build_features(
    flights: DataFrame, lookback: DataFrame, weather: DataFrame, settings: FeatureParams, *, one_task: bool = False
) -> DataFrame:
    """One row of features for each row of ``flights``, in no particular order (docs/data-contracts.md).

    Args:
        flights: kept flights of the month.
        lookback: kept flights before them; they are only seen, and may be none.
        weather: kept weather that covers T of every flight of ``flights``; an hour that is absent gives nulls.
        settings: lengths of the windows.
        one_task: the rows are few, and sorting them in one task is quicker than seven exchanges between several.
    """
    flights.createOrReplaceTempView("flights")
    lookback.createOrReplaceTempView("lookback")
    weather.createOrReplaceTempView("weather")
    return flights.sparkSession.sql(features_sql(settings, ONE_TASK if one_task else ""))


def features(month: str, previous: str, settings: FeatureParams, root: Path = Path("data")) -> Path:
    """Write ``root/features/<month>.parquet`` from the kept month and the tail of ``previous``; returns its path."""
    before = [] if previous == month else [root / "tail" / previous]
    kept = root / "kept" / month
    spark = session(f"features {month}")
    seen = {name: [folder / f"{name}.parquet" for folder in (kept, *before)] for name in KEPT}
    flights = read(spark, seen["flights"][:1], KEPT["flights"])
    lookback = read(spark, seen["flights"][1:], KEPT["flights"])
    weather = read(spark, seen["weather"], KEPT["weather"])
    small = size_for(spark, [file for files in seen.values() for file in files])
    frame = build_features(flights, lookback, weather, settings, one_task=small)
    target = root / "features" / f"{month}.parquet"
    # Nothing is cached: each input is read by a few narrow scans, which cost less than keeping its rows.
    write_single(frame, KEY, target, root / f".features-{month}.partial")
    spark.stop()
    return target


def main() -> None:
    """Build the features of one month."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--month", required=True, help="YYYY-MM")
    month = parser.parse_args().month
    settings = params.load()
    if month not in settings.months:
        raise ConfigError(
            f"{month} is not in the months of params.yaml, which are {', '.join(settings.months)}; add it there."
        )
    previous = settings.months[month].previous
    target = features(month, previous, settings.features)
    rows = pq.read_metadata(target).num_rows
    seen = "nothing before it" if previous == month else f"the tail of {previous}"
    print(f"{month}: features of {rows:,} flights, looking back on {seen}")


if __name__ == "__main__":
    run_main(main)
