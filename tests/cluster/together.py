"""Runs in a process of its own: a training in two pods, as one Airflow task, on the cluster of the environment."""

from __future__ import annotations

import os
from dataclasses import replace
from types import SimpleNamespace

kept = {name: value for name, value in os.environ.items() if name.startswith(("AIRLOOP_PLACE", "AIRLOOP_IMAGE"))}

from tests.airflow_home import use  # noqa: E402 - its names go with the import

use()

from airloop.keys import run_key  # noqa: E402 - Airflow's settings come first
from airloop.pod import StagePodOperator  # noqa: E402 - likewise
from airloop.settings import code  # noqa: E402 - likewise

from tasks.running.catalogue import Catalogue  # noqa: E402 - likewise
from tests.cluster.story import WARMUP  # noqa: E402 - likewise
from tests.plugins.conftest import make_context  # noqa: E402 - likewise

os.environ |= kept
SMALL = {
    "train.family": "mlp",
    "train.threads": 1,
    "train.mlp.epochs": 60,
    "train.mlp.early_stopping_epochs": 60,
    "train.checkpoint.seconds": 2,
}
work = replace(Catalogue(code()).stage("train"), nodes=2, cpu=1, memory="2Gi")
operator = StagePodOperator(model="flights", task_id="train", work=work)
# The labels of a real task come from the database, which this script has none of.
operator._get_ti_pod_labels = lambda *_, **__: {"dag_id": "flights.train", "task_id": "train", "run_id": "together"}  # type: ignore[method-assign]
operator.log_events_on_startup = False
context = make_context("flights.train", partition_key=WARMUP[-1], params={"overrides": SMALL}, run_id="together")
context["ti"] = SimpleNamespace(dag_id="flights.train", task_id="train", run_id="together", map_index=-1, try_number=1)
operator.execute(context)
print("run", run_key(context), flush=True)
