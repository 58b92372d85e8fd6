"""The Spark session of every Spark script: small, quiet, and leaving nothing behind."""

from __future__ import annotations

import os

from pyspark.sql import SparkSession


def session(app: str) -> SparkSession:
    """A session for ``app``; spark-submit's master, where there is one, stays as it is, else local[*]."""
    builder = SparkSession.builder.appName(app)
    if "SPARK_ENV_LOADED" not in os.environ and "PYSPARK_GATEWAY_PORT" not in os.environ:
        builder = builder.master("local[*]")
    settings = {
        "spark.ui.enabled": "false",
        # A month has some 30,000 rows: more partitions only cost tasks.
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.adaptive.enabled": "false",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.catalogImplementation": "in-memory",  # no metastore_db beside the script
        "mapreduce.fileoutputcommitter.marksuccessfuljobs": "false",
    }
    for name, value in settings.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark
