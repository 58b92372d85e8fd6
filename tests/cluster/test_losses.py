"""What a training goes through on a bad day: one run loses its pod twice, and then Airflow its scheduler."""

from __future__ import annotations

from typing import Any

import pytest

from local import supervise
from tasks.landing import landed
from tasks.running import pod_record
from tests.e2e.loop import Loop

from . import table
from .kube import Cluster
from .story import MARKS, WARMUP, nothing_left

pytestmark = MARKS

LONG = {"train.xgboost.rounds": 6001, "train.xgboost.early_stopping_rounds": 6001}
"""A training that no cache knows, and that is long enough to be caught in the middle."""


@pytest.fixture(scope="module")
def training(loop: Loop) -> str:
    """Run id of a training that goes on while the tests strike."""
    for interval in WARMUP:
        if landed.read(loop.store, interval) is None:  # these tests were asked for alone
            loop.land(interval)
            loop.run("flights.ingest", {"interval": interval})
    return loop.airflow.trigger("flights.train", {"interval": WARMUP[-1], "overrides": LONG})


def test_its_pod_is_deleted(training: str, cluster: Cluster) -> None:
    with table.fault("training pod deleted in mid-run", "a loss: the next pod starts, on spot again") as row:
        first = cluster.at_work(stage="train", evictions="0")
        cluster.delete(first)
        row.saw(f"{first.metadata.name} deleted, then {successor(cluster, 1)}")


def test_its_pod_is_evicted(training: str, cluster: Cluster) -> None:
    with table.fault("training pod evicted (Eviction API)", "a loss: the next pod starts, on demand") as row:
        second = cluster.at_work(stage="train", evictions="1")
        cluster.evict(second)
        row.saw(f"{second.metadata.name} evicted, then {successor(cluster, 2)}")


def test_the_scheduler_restarts(training: str, loop: Loop, cluster: Cluster) -> None:
    with table.fault("Airflow's scheduler restarts in mid-stage", "the pod goes on, Airflow finds it again") as row:
        third = cluster.at_work(stage="train", evictions="2")
        supervise.stop(loop.home, "airflow-scheduler")
        supervise.start_stopped(loop.home)
        tasks = loop.follow("flights.train", training)
        used = pods_of_training(loop, third)
        assert [use["outcome"] for use in used] == ["disrupted", "disrupted", "completed"], used
        assert used[-1]["pod"] == third.metadata.name, f"{used[-1]['pod']} made the result, not {third.metadata.name}"
        row.saw(f"{third.metadata.name} made the result in {used[-1]['seconds']:.0f} s, in Airflow's try "
                f"{tasks['train']['try_number']}")  # fmt: skip
    with table.fault("after all of it", "no pod left behind; each pod's seconds kept") as row:
        nothing_left(cluster)
        row.saw(", ".join(f"{use['seconds']:.0f} s {'spot' if use['spot'] else 'on demand'}" for use in used))


def successor(cluster: Cluster, losses: int) -> str:
    """The pod that starts after so many losses: its name, and on which machines it may run."""
    pod = cluster.at_work(stage="train", evictions=str(losses))
    spot = bool(pod.spec.node_selector)
    assert spot == (losses < 2), f"after {losses} losses the node selector is {pod.spec.node_selector}"
    return f"{pod.metadata.name} {'on spot' if spot else 'on demand'}"


def pods_of_training(loop: Loop, pod: Any) -> list[dict[str, Any]]:
    """What the training pods of ``pod``'s run used, lost ones first."""
    used = pod_record.usage(pod.metadata.labels["airloop.io/run"], loop.store)
    of_training = [use for use in used if use["stage"] == "train"]
    return sorted(of_training, key=lambda use: str(use["outcome"]) == "completed")
