"""features: what could be known of each flight three hours before its scheduled hour, computed by Spark."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession

from tasks.common import params
from tasks.common.errors import run_main
from tasks.common.params import FeatureParams
from tasks.common.spark import session
from tasks.flights.features_sql import features_sql


def build_features(spark: SparkSession, flights: DataFrame, lookback: DataFrame, weather: DataFrame, settings: FeatureParams) -> DataFrame:
    """One row of features for each row of ``flights``, sorted by the key (docs/data-contracts.md)."""
    flights.createOrReplaceTempView("flights")
    lookback.createOrReplaceTempView("lookback")
    weather.createOrReplaceTempView("weather")
    return spark.sql(features_sql(settings))


def write_single(frame: DataFrame, target: Path) -> None:
    """Write ``frame`` as one Parquet file named ``target``, in one step, without Spark's litter."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".spark-") as folder:
        frame.coalesce(1).write.mode("overwrite").parquet(folder)
        (part,) = Path(folder).glob("part-*.parquet")
        part.replace(target)


def main() -> None:
    """Build the features of one month."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--month", required=True, help="YYYY-MM")
    month = parser.parse_args().month
    settings = params.load()
    previous = settings.months[month].previous
    spark = session(f"features {month}")
    flights = spark.read.parquet(f"data/kept/{month}/flights.parquet")
    weather = spark.read.parquet(f"data/kept/{month}/weather.parquet")
    if previous == month:
        lookback = flights.limit(0)
    else:
        lookback = spark.read.parquet(f"data/tail/{previous}/flights.parquet")
        weather = weather.unionByName(spark.read.parquet(f"data/tail/{previous}/weather.parquet"))
    write_single(build_features(spark, flights, lookback, weather, settings.features), Path(f"data/features/{month}.parquet"))
    print(f"{month}: features built")
    spark.stop()


if __name__ == "__main__":
    run_main(main)
