"""The whole loop with every stage in a pod. The tests beside this one go on where it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from local.paths import ROOT
from tasks.core.urls import url_of
from tasks.running import pod_record
from tasks.storage.artefacts import Store
from tests.e2e.loop import Loop

from . import settings, table
from .kube import Cluster
from .story import INGEST, INTERVAL, MARKS, TRAIN, WARMUP, nothing_left, runs

pytestmark = MARKS


def test_an_interval_goes_through_the_whole_loop_in_pods(loop: Loop, cluster: Cluster) -> None:
    with table.fault("none: ingest, score, monitor, train", "every stage in a pod, and none left behind") as row:
        for interval in WARMUP:
            loop.land(interval)
            loop.run("flights.ingest", {"interval": interval})
            loop.follow("flights.score", loop.started("flights.score", interval))
            loop.follow("flights.monitor", loop.started("flights.monitor", interval))
        tasks = loop.follow(
            "flights.train", loop.started("flights.train", WARMUP[-1])
        )  # which the end of the warm-up asks for
        assert tasks["register"]["state"] == "success"

        used = [use for key in runs(loop) for use in pod_record.usage(key, loop.store)]
        expected, ran = {*INGEST[1:], "score", "monitor", *TRAIN}, {use["stage"] for use in used}
        assert expected <= ran, f"no pod was seen of {', '.join(sorted(expected - ran))}"
        assert {use["outcome"] for use in used} == {"completed"}, used
        row.saw(f"{len(used)} pods: {', '.join(sorted(ran))}")
        nothing_left(cluster)


def test_the_interval_has_the_digests_that_this_machine_gives_it(loop: Loop, tmp_path: Path) -> None:
    with table.fault("none: the same interval in processes here", "the same digests") as row:
        here = in_processes(INTERVAL, tmp_path)
        there = loop.landed(INTERVAL).lock
        differing = [name for name in there if outs(there[name]) != outs(here[name])]
        assert not differing, f"other digests: {', '.join(differing)}"
        row.saw(f"{len(there)} stages agree")


def test_the_interval_has_the_digests_that_executors_give_it(
    loop: Loop, cluster: Cluster, told: settings.Settings, tmp_path: Path
) -> None:
    with table.fault("none: its features by Spark on Kubernetes", "the same digests; no executor is left") as row:
        there = loop.landed(INTERVAL).lock
        run, here = by_executors(cluster, told, tmp_path)
        assert {name: outs(here[name]) for name in there} == {name: outs(there[name]) for name in there}
        used = pod_record.usage(run, Store(url_of(tmp_path / "store")).part("flights"))
        assert used and {use["why"] for use in used} == {"executor"}, used
        row.saw(f"the same, by {len(used)} executor(s) of {used[0]['cpu']:.0f} cores for {used[0]['seconds']:.0f} s")
        nothing_left(cluster)


def in_processes(interval: str, home: Path) -> dict[str, Any]:
    """dvc.lock of the interval's stages, run by processes of this machine in a home and a store of their own."""
    argv = ["-m", "tasks.running", "stage", *INGEST, "--run", "here", "--first", interval]
    run_python([*argv, "--begins"], home)
    return lock("here", home)


def by_executors(cluster: Cluster, told: settings.Settings, home: Path) -> tuple[str, dict[str, Any]]:
    """Key and dvc.lock of a run whose features are made by executors of the cluster, in a home and a store of its own."""
    image = told.image("{role}")
    said = run_python(
        ["-m", "tests.cluster.submit", INTERVAL, f"k8s://{cluster.address}", cluster.namespace, image], home
    )
    run = said.rpartition("run ")[2].strip()
    return run, lock(run, home)


def run_python(argv: list[str], home: Path) -> str:
    """Run it with nothing that the cluster's runs know or keep; returns its output. AssertionError with it when it fails."""
    apart = {
        "AIRLOOP_HOME": str(home),
        "AIRLOOP_STORE": url_of(home / "store"),
        "AIRLOOP_DVC_REMOTE": str(home / "remote"),
        "AIRLOOP_DVC_CACHE": str(home / "cache"),
        "PYTHONPATH": os.pathsep.join(str(ROOT / folder) for folder in (".", "plugins")),
    }
    done = subprocess.run(
        [sys.executable, *argv], env={**os.environ, **apart}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    return done.stdout


def lock(run: str, home: Path) -> dict[str, Any]:
    """Stages of a run's dvc.lock."""
    return dict(yaml.safe_load((home / f"runs/{run}/dvc.lock").read_text())["stages"])


def outs(entry: dict[str, Any]) -> dict[str, str]:
    return {out["path"]: out["md5"] for out in entry["outs"]}
