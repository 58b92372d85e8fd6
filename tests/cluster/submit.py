"""Runs in a process of its own: an interval's stages as one Airflow task, the last of them by spark-submit on the given cluster."""

from __future__ import annotations

import json
import os
import sys

from tests.airflow_home import use

use()

from airloop.keys import run_key  # noqa: E402 - Airflow's settings come first
from airloop.stage import stage  # noqa: E402 - likewise

from tests.cluster.story import INGEST  # noqa: E402 - likewise
from tests.plugins.conftest import FLIGHTS, make_context  # noqa: E402 - likewise

interval, master, namespace, image = sys.argv[1:]
spark = {"conn_type": "spark", "host": master, "extra": {"namespace": namespace}}
os.environ |= {
    "AIRLOOP_PLACE_FEATURES": "spark",
    "AIRLOOP_IMAGE": image,
    "AIRFLOW_CONN_SPARK_DEFAULT": json.dumps(spark),
}
context = make_context("flights.ingest", partition_key=interval)
stage(FLIGHTS, *INGEST).execute(context)
print("run", run_key(context), flush=True)
