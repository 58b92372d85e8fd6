"""How each status of a pod is read; the statuses are those that clusters show."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airloop.pod_end import Kind, Patience, end_of
from kubernetes.client import models as k8s

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
PATIENCE = Patience(schedule=900, pull=180, deletion=120)


def pod(
    phase: str, *, age: float = 60, deleted: float | None = None, reason: str | None = None, **state: Any
) -> k8s.V1Pod:
    """A pod ``age`` seconds old, deleted ``deleted`` seconds ago."""
    statuses = [
        k8s.V1ContainerStatus(
            name="base", ready=False, restart_count=0, image="", image_id="", state=k8s.V1ContainerState(**state)
        )
    ]
    return k8s.V1Pod(
        metadata=k8s.V1ObjectMeta(
            name="p",
            creation_timestamp=NOW - timedelta(seconds=age),
            deletion_timestamp=None if deleted is None else NOW - timedelta(seconds=deleted),
        ),
        spec=k8s.V1PodSpec(containers=[], active_deadline_seconds=300),
        status=k8s.V1PodStatus(
            phase=phase, reason=reason, container_statuses=statuses if state else None, conditions=[]
        ),
    )


def terminated(code: int, reason: str = "Error") -> k8s.V1ContainerStateTerminated:
    return k8s.V1ContainerStateTerminated(exit_code=code, reason=reason)


def waiting(reason: str) -> k8s.V1ContainerStateWaiting:
    return k8s.V1ContainerStateWaiting(reason=reason, message="because")


def disrupted(found: k8s.V1Pod, reason: str = "PreemptionByScheduler") -> k8s.V1Pod:
    found.status.conditions = [k8s.V1PodCondition(type="DisruptionTarget", status="True", reason=reason)]
    return found


@pytest.mark.parametrize(
    ("seen", "kind", "words"),
    [
        (None, Kind.LOST, "gone"),
        (pod("Succeeded", terminated=terminated(0, "Completed")), Kind.ENDED, "exit code 0"),
        (pod("Failed", terminated=terminated(1)), Kind.ENDED, "exit code 1"),
        (pod("Failed", terminated=terminated(137)), Kind.ENDED, "exit code 137"),
        (pod("Failed", terminated=terminated(137, "OOMKilled")), Kind.HOPELESS, "out of memory"),
        (pod("Failed", reason="Evicted"), Kind.LOST, "Evicted"),
        (pod("Failed", reason="Evicted", terminated=terminated(137)), Kind.LOST, "Evicted"),
        (pod("Failed", reason="NodeShutdown", terminated=terminated(143)), Kind.LOST, "NodeShutdown"),
        (pod("Failed", reason="UnexpectedAdmissionError"), Kind.LOST, "UnexpectedAdmissionError"),
        (disrupted(pod("Failed", terminated=terminated(143))), Kind.LOST, "PreemptionByScheduler"),
        (disrupted(pod("Failed", terminated=terminated(1))), Kind.LOST, "PreemptionByScheduler"),
        (disrupted(pod("Succeeded", terminated=terminated(0))), Kind.ENDED, "exit code 0"),
        (pod("Running", deleted=10, terminated=terminated(143)), Kind.LOST, "deleted while it worked"),
        (pod("Running", deleted=10, terminated=terminated(1)), Kind.ENDED, "exit code 1"),
        (pod("Running", deleted=200, running=k8s.V1ContainerStateRunning()), Kind.LOST, "has not confirmed"),
        (pod("Failed", reason="DeadlineExceeded"), Kind.HOPELESS, "timeout_minutes"),
        (pod("Failed", reason="DeadlineExceeded", terminated=terminated(143)), Kind.HOPELESS, "timeout_minutes"),
        (pod("Pending", age=200, waiting=waiting("ErrImagePull")), Kind.LOST, "could not be pulled: ErrImagePull: because"),
        (pod("Pending", waiting=waiting("InvalidImageName")), Kind.HOPELESS, "InvalidImageName"),
        (pod("Pending", waiting=waiting("CreateContainerConfigError")), Kind.HOPELESS, "because"),
        (pod("Pending", age=901), Kind.LOST, "no node took it in"),
    ],
)  # fmt: skip
def test_an_end_is_read_for_what_it_is(seen: Any, kind: Kind, words: str) -> None:
    end = end_of(seen, "base", PATIENCE, NOW)
    assert end is not None and end.kind is kind and words in end.why


@pytest.mark.parametrize(
    "seen",
    [
        pod("Pending"),
        pod("Pending", age=600, waiting=waiting("ContainerCreating")),
        pod("Pending", age=60, waiting=waiting("ImagePullBackOff")),
        pod("Running", running=k8s.V1ContainerStateRunning()),
        pod("Running", deleted=10, running=k8s.V1ContainerStateRunning()),
        pod("Unknown"),
    ],
)
def test_what_goes_on_has_not_ended(seen: Any) -> None:
    assert end_of(seen, "base", PATIENCE, NOW) is None
