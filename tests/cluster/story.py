"""What the tests share: when they can run, and what a run's pods left behind."""

from __future__ import annotations

import pytest

from tests.e2e.loop import Loop

from . import settings
from .kube import Cluster

INTERVAL = "2013-01"
WARMUP = (INTERVAL, "2013-02", "2013-03")
"""What the golden set is drawn from, so that the first training has to wait for it."""
INGEST = ("manifest", "ingest", "validate", "labels", "features")
TRAIN = ("golden", "train", "resolve", "evaluate", "gate")

WHY_NOT = settings.missing(settings.read())
MARKS = [pytest.mark.cluster, pytest.mark.timeout(3600), pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "-")]


def nothing_left(cluster: Cluster) -> None:
    """AssertionError when pods of stages are still there, but for those that are just going."""

    def none() -> bool:
        return not [pod for pod in cluster.pods() if "airloop.io/stage" in (pod.metadata.labels or {})]

    cluster.until(none, "all stages' pods to be gone", 90)


def runs(loop: Loop) -> list[str]:
    """Keys of all runs that have a record."""
    return sorted({name.split("/")[1] for name in loop.store.names("runs")})
