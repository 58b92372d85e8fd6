"""An interval through real DAG runs whose stages are pods, on an API server with faults, watched and deferred."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.settings.environment import environment
from tests.kube.cluster import Cluster
from tests.waiting import until

from .conftest import started
from .loop import INGEST, Loop, in_processes

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

INTERVAL = "2013-01"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster") / "nodes").running() as running:
        yield running


@pytest.fixture(scope="module", params=["false", "true"], ids=["watched", "deferred"])
def loop(request: pytest.FixtureRequest, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    """A stack whose stages are pods of ``cluster``."""
    environ = {
        "AIRLOOP_PLACE": "cluster",
        "AIRLOOP_IMAGE": "registry.example/airloop-{role}:1",
        "AIRLOOP_NAMESPACE": "ml",
        "AIRLOOP_DEFERRABLE": request.param,
        "AIRFLOW_CONN_KUBERNETES_DEFAULT": cluster.connection,
    }
    with started(tmp_path_factory.mktemp("pods") / "home", environ) as loop:
        yield loop


def test_an_interval_in_pods_of_which_some_are_lost_has_the_digests_of_an_interval_in_processes(
    loop: Loop, cluster: Cluster, tmp_path: Path
) -> None:
    """One pod is evicted, one vanishes, the API server is away meanwhile; Airflow sees no failed try.

    Deferred, it may see one: a task that resumes before the scheduler has heard that its worker ended is tried again.
    """
    seen = len(cluster.created)
    loop.land(INTERVAL)
    run_id = loop.airflow.trigger("flights.ingest", {"interval": INTERVAL})
    first = wait_for(cluster, "features", seen)
    cluster.evict(first)
    second = wait_for(cluster, "features", cluster.created.index(first) + 1)
    cluster.away(5)
    time.sleep(1)
    cluster.vanish(second)
    tasks = loop.follow("flights.ingest", run_id)

    allowed = 2 if os.environ["AIRLOOP_DEFERRABLE"] == "true" else 1
    assert all(task["try_number"] <= allowed for task in tasks.values())
    # Scoring begins when `publish` has ended, beside the last task of the ingest.
    made = [pod for pod in cluster.created[seen:] if pod.stage in INGEST]
    assert [pod.stage for pod in made] == ["ingest", "validate", *["features"] * 3]
    until(lambda: not {pod.name for pod in made} & set(cluster.pods), "the pods of the ingest are deleted", 60)
    landed = loop.landed(INTERVAL)
    assert landed.lock == in_processes(tmp_path, environment().landing_url, INTERVAL)
    scored = loop.follow("flights.score", loop.started("flights.score", INTERVAL))
    assert scored["score"]["state"] == "success"
    assert cluster.created[-1].stage in {"score", "monitor"}


def wait_for(cluster: Cluster, stage: str, after: int, seconds: float = 300) -> object:
    """The first pod of ``stage`` that works, among those created as number ``after`` or later."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for pod in cluster.created[after:]:
            if pod.stage == stage and pod.phase == "Running":
                return pod
        time.sleep(0.05)
    raise AssertionError(
        f"no pod of {stage} at work within {seconds} s: {[(p.stage, p.phase) for p in cluster.created]}"
    )
