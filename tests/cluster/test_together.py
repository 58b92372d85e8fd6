"""A training in two pods that meet by a Service: run to its end, and with one of them evicted in mid-run."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from local.paths import ROOT
from tasks.running import pod_record
from tests.e2e.loop import Loop

from . import settings, table
from .kube import Cluster
from .story import MARKS, nothing_left

pytestmark = [
    *MARKS,
    pytest.mark.skipif(not settings.read().torch, reason="the train image has no PyTorch: TORCH=1 says that it has"),
]
RANK = "batch.kubernetes.io/job-completion-index"


def test_two_pods_train_together_and_one_is_evicted(loop: Loop, cluster: Cluster, tmp_path: Path) -> None:
    with table.fault(
        "one of two training pods evicted", "both begin again, from the checkpoint; rank 0 records"
    ) as row:
        log = tmp_path / "log"
        with log.open("w") as output:
            path = os.pathsep.join(str(ROOT / folder) for folder in (".", "plugins"))
            task = subprocess.Popen(
                [sys.executable, "-m", "tests.cluster.together"],
                env={**os.environ, "PYTHONPATH": path},
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
            )
        try:
            first, second = pair(cluster, task, 0)
            cluster.until(lambda: "step" in cluster.log(first.metadata.name), "the first steps", 300)
            time.sleep(5)  # a checkpoint's worth
            cluster.evict(second)
            third, _ = pair(cluster, task, 1)
            cluster.until(lambda: task.poll() is not None, "the task to end", 600)
        finally:
            task.kill()
            print(log.read_text()[-5000:])
        assert task.returncode == 0
        run = log.read_text().rpartition("run ")[2].strip()
        used = sorted(pod_record.usage(run, loop.store), key=lambda use: str(use["outcome"]))
        assert [use["outcome"] for use in used] == ["completed", "disrupted"], used
        row.saw(
            f"{second.metadata.name} evicted; {third.metadata.name} recorded; {used[1]['seconds']:.0f} pod-seconds lost"
        )
        nothing_left(cluster)
        assert not cluster.kubectl("get", "jobs,services", "--selector", "airloop.io/group", "--output", "name")


def pair(cluster: Cluster, task: subprocess.Popen[bytes], losses: int) -> tuple[object, object]:
    """Both pods of the group that runs after so many losses, by rank; AssertionError when the task ends before."""
    ranks = {"evictions": str(losses), "stage": "train"}

    def both() -> list[object]:
        assert task.poll() is None, "the task ended without them"
        pods = [p for p in cluster.pods(**ranks) if RANK in p.metadata.labels and p.status.phase == "Running"]
        return sorted(pods, key=lambda pod: pod.metadata.labels[RANK]) if len(pods) == 2 else []

    first, second = cluster.until(both, f"two training pods after {losses} losses", 600)
    return first, second
