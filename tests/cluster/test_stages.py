"""What a stage's pod, and Airflow, go through on a bad day."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from local import supervise
from tasks.common import pod_record
from tests.e2e.loop import Loop

from . import table
from .kube import Cluster
from .story import MARKS, MONTH, nothing_left, told

pytestmark = MARKS

LONG = {"train.early_stopping_rounds": 1500}
"""A training that is long enough to be caught in the middle."""
ONE_LOSS = "one loss, a second pod, Airflow's try goes on"

Strike = Callable[[Any], object]


def test_a_training_pod_is_deleted(loop: Loop, cluster: Cluster) -> None:
    with table.fault("training pod deleted in mid-run", ONE_LOSS) as row:
        row.saw(interrupted(loop, cluster, 1501, cluster.delete))


def test_a_training_pod_is_evicted(loop: Loop, cluster: Cluster) -> None:
    with table.fault("training pod evicted (Eviction API)", ONE_LOSS) as row:
        row.saw(interrupted(loop, cluster, 1502, cluster.evict))


def test_the_scheduler_restarts_while_a_stage_runs(loop: Loop, cluster: Cluster) -> None:
    with table.fault("Airflow's scheduler restarts in mid-stage", "the same pod goes on; no second one") as row:

        def restart(_: Any) -> None:
            supervise.stop(loop.home, "airflow-scheduler")
            supervise.start_stopped(loop.home)

        used, tries = struck(loop, cluster, 1503, restart)
        assert [use["outcome"] for use in used] == ["ended"], f"pods: {told(used)}"
        row.saw(f"{told(used)}; try {tries}")
        nothing_left(cluster)


def interrupted(loop: Loop, cluster: Cluster, rounds: int, strike: Strike) -> str:
    """Strike a training's pod; returns what was seen, AssertionError unless it is one loss and then a result."""
    used, tries = struck(loop, cluster, rounds, strike)
    assert ([use["outcome"] for use in used], tries) == (["lost", "ended"], 1), f"{told(used)}; try {tries}"
    nothing_left(cluster)
    return f"{told(used)}; try {tries}"


def struck(loop: Loop, cluster: Cluster, rounds: int, strike: Strike) -> tuple[list[dict[str, Any]], int]:
    """Train, ``strike`` when the pod works, follow to a successful end; what its pods used, lost ones first, and the last try.

    The number of ``rounds`` makes the run one that no cache knows.
    """
    run_id = loop.airflow.trigger("train", {"month": MONTH, "overrides": {**LONG, "train.rounds": rounds}})
    pod = cluster.at_work(stage="train")
    strike(pod)
    tasks = loop.follow("train", run_id)
    used = pod_record.usage(pod.metadata.labels["airloop.io/run"], loop.store)
    of_training = [use for use in used if use["stage"] == "train"]
    return sorted(of_training, key=lambda use: str(use["outcome"]) == "ended"), int(tasks["train"]["try_number"])
