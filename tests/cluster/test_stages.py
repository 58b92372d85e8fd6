"""The whole loop with every stage in pods, then what pods and Airflow go through on a bad day.

One story in order: each test starts where the one before ended.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from local import supervise
from tasks.common import pod_record
from tests.e2e.loop import Loop

from . import settings, table
from .kube import Cluster

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(bool(settings.missing(settings.read())), reason=settings.missing(settings.read()) or "-"),
]

WARM_UP = ("2013-01", "2013-02", "2013-03")
MONTH = WARM_UP[-1]
INGEST = ("manifest", "ingest", "validate", "features")
TRAIN = ("golden", "train", "resolve", "evaluate", "gate")
LONG = {"train.early_stopping_rounds": 1500}
"""A training that is long enough to be caught in the middle."""

Strike = Callable[[Any], object]


def test_a_month_goes_through_the_whole_loop_in_pods(loop: Loop, cluster: Cluster) -> None:
    with table.fault("none: ingest, score, monitor, train, deploy", "every stage in a pod; v1 in the ledger") as row:
        for month in WARM_UP:
            loop.land(month)
        loop.airflow.backfill("ingest", "2013-01-01", "2013-03-31")
        for month in WARM_UP:
            loop.follow("score", loop.started("score", month, seconds=1800))
            loop.follow("monitor", loop.started("monitor", month, seconds=1800))
        loop.follow("train", loop.started("train", MONTH, seconds=1800))

        ran = {use["stage"] for key in runs(loop) for use in pod_record.usage(key, loop.store)}
        expected = {*INGEST[2:], "score", "monitor", *TRAIN}
        assert expected <= ran, f"no pod was seen of {', '.join(sorted(expected - ran))}"
        row.saw(f"pods of {', '.join(sorted(ran))}")
        left_behind(cluster)


def test_the_month_has_the_digests_that_this_machine_gives_it(loop: Loop, tmp_path: Path) -> None:
    with table.fault("none: the same month in processes here", "the same digests") as row:
        here = in_processes(loop, WARM_UP[0], tmp_path)
        there = loop.landed(WARM_UP[0]).lock
        differing = [name for name in there if outs(there[name]) != outs(here[name])]
        assert not differing, f"other digests: {', '.join(differing)}"
        row.saw(f"{len(there)} stages agree")


def test_a_training_pod_is_deleted(loop: Loop, cluster: Cluster) -> None:
    with table.fault("training pod deleted in mid-run", "one loss, a second pod, Airflow sees no error") as row:
        row.saw(interrupted(loop, cluster, 1501, cluster.delete))


def test_a_training_pod_is_evicted(loop: Loop, cluster: Cluster) -> None:
    with table.fault("training pod evicted (Eviction API)", "one loss, a second pod, Airflow sees no error") as row:
        row.saw(interrupted(loop, cluster, 1502, cluster.evict))


def test_the_scheduler_restarts_while_a_stage_runs(loop: Loop, cluster: Cluster) -> None:
    with table.fault("Airflow's scheduler restarts in mid-stage", "the same pod goes on; no second one") as row:

        def restart(_: Any) -> None:
            supervise.stop(loop.home, "airflow-scheduler")
            supervise.start_stopped(loop.home)

        used, tries = struck(loop, cluster, 1503, restart)
        assert [use["outcome"] for use in used] == ["ended"], f"pods: {told(used)}"
        row.saw(f"{told(used)}; {tries} tries")
        left_behind(cluster)


def interrupted(loop: Loop, cluster: Cluster, rounds: int, strike: Strike) -> str:
    """Strike a training's pod; returns what was seen, AssertionError unless it is one loss and then a result."""
    used, tries = struck(loop, cluster, rounds, strike)
    assert ([use["outcome"] for use in used], tries) == (["lost", "ended"], 1), f"{told(used)}; {tries} tries"
    left_behind(cluster)
    return told(used)


def struck(loop: Loop, cluster: Cluster, rounds: int, strike: Strike) -> tuple[list[dict[str, Any]], int]:
    """Train, ``strike`` when the pod works, follow to a successful end; what its pods used, in order, and Airflow's tries.

    The number of ``rounds`` makes the run one that no cache knows.
    """
    run_id = loop.airflow.trigger("train", {"month": MONTH, "overrides": {**LONG, "train.rounds": rounds}})
    pod = cluster.at_work(stage="train")
    strike(pod)
    tasks = loop.follow("train", run_id)
    used = pod_record.usage(pod.metadata.labels["airloop.io/run"], loop.store)
    of_training = [use for use in used if use["stage"] == "train"]
    return sorted(of_training, key=lambda use: str(use["outcome"]) == "ended"), int(tasks["train"]["try_number"])


def told(used: list[dict[str, Any]]) -> str:
    return ", ".join(f"{use['outcome']} after {use['seconds']:.0f} s ({use['why']})" for use in used)


def left_behind(cluster: Cluster) -> None:
    """AssertionError when pods of stages are still there, but for those that are just going."""

    def none() -> bool:
        return not [pod for pod in cluster.pods() if "airloop.io/stage" in (pod.metadata.labels or {})]

    cluster.until(none, "all stages' pods to be gone", 90)


def runs(loop: Loop) -> list[str]:
    """Keys of all runs that have a record."""
    return sorted({name.split("/")[1] for name in loop.store.names("runs")})


def outs(entry: dict[str, Any]) -> dict[str, str]:
    return {out["path"]: out["md5"] for out in entry["outs"]}


def in_processes(loop: Loop, month: str, home: Path) -> dict[str, Any]:
    """dvc.lock of the month's stages, run by processes of this machine in a home and a store of their own."""
    import os

    variables = {
        "AIRLOOP_HOME": str(home),
        "AIRLOOP_STORE": (home / "store").as_uri(),
        "AIRLOOP_DVC_REMOTE": str(home / "remote"),
        "AIRLOOP_DVC_CACHE": str(home / "cache"),
    }
    argv = [sys.executable, "-m", "tasks.common.workspace", "stage", *INGEST]
    done = subprocess.run(
        [*argv, "--dag", "ingest", "--run", "here", "--month", month, "--begins"],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(yaml.safe_load((home / "runs/here/dvc.lock").read_text())["stages"])
