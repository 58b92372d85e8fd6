"""How each status of a pod is read; the statuses are those that clusters show."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airloop.pod_end import Patience, Termination, end_of
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


def terminated(
    code: int, reason: str = "Error", message: str | None = None, *, finished: float | None = None
) -> k8s.V1ContainerStateTerminated:
    """A container that ended ``finished`` seconds ago."""
    at = None if finished is None else NOW - timedelta(seconds=finished)
    return k8s.V1ContainerStateTerminated(exit_code=code, reason=reason, message=message, finished_at=at)


def waiting(reason: str, message: str = "because") -> k8s.V1ContainerStateWaiting:
    return k8s.V1ContainerStateWaiting(reason=reason, message=message)


SLOW_CACHE = "failed to sync secret cache: timed out waiting for the condition"
NO_SECRET = 'secret "airloop-store" not found'
NO_PYTHON = 'exec: "python": executable file not found in $PATH'
LOST = "The container could not be located when the pod was terminated"


def disrupted(found: k8s.V1Pod, reason: str = "PreemptionByScheduler") -> k8s.V1Pod:
    found.status.conditions = [k8s.V1PodCondition(type="DisruptionTarget", status="True", reason=reason)]
    return found


@pytest.mark.parametrize(
    ("seen", "kind", "words"),
    [
        (None, Termination.DISRUPTED, "gone"),
        (pod("Succeeded", terminated=terminated(0, "Completed")), Termination.COMPLETED, "exit code 0"),
        (pod("Failed", terminated=terminated(1)), Termination.COMPLETED, "exit code 1"),
        (pod("Failed", terminated=terminated(137)), Termination.COMPLETED, "exit code 137"),
        (pod("Failed", terminated=terminated(137, "OOMKilled")), Termination.NON_RETRYABLE, "out of memory"),
        (pod("Failed", reason="Evicted"), Termination.DISRUPTED, "Evicted"),
        (pod("Failed", reason="Evicted", terminated=terminated(137)), Termination.DISRUPTED, "Evicted"),
        (pod("Failed", reason="NodeShutdown", terminated=terminated(143)), Termination.DISRUPTED, "NodeShutdown"),
        (pod("Failed", reason="UnexpectedAdmissionError"), Termination.DISRUPTED, "UnexpectedAdmissionError"),
        (disrupted(pod("Failed", terminated=terminated(143))), Termination.DISRUPTED, "PreemptionByScheduler"),
        (disrupted(pod("Failed", reason="Evicted", terminated=terminated(137))), Termination.DISRUPTED, "Evicted: Preemption"),
        (disrupted(pod("Failed", terminated=terminated(1))), Termination.DISRUPTED, "PreemptionByScheduler"),
        (disrupted(pod("Succeeded", terminated=terminated(0))), Termination.COMPLETED, "exit code 0"),
        (pod("Running", deleted=10, terminated=terminated(143)), Termination.DISRUPTED, "deleted while it worked"),
        (pod("Running", deleted=10, terminated=terminated(1)), Termination.COMPLETED, "exit code 1"),
        (pod("Running", deleted=200, running=k8s.V1ContainerStateRunning()), Termination.DISRUPTED, "has not confirmed"),
        (pod("Failed", reason="DeadlineExceeded"), Termination.NON_RETRYABLE, "timeout_minutes"),
        (pod("Failed", reason="DeadlineExceeded", terminated=terminated(143)), Termination.NON_RETRYABLE, "timeout_minutes"),
        (pod("Pending", age=200, waiting=waiting("ErrImagePull")), Termination.DISRUPTED, "could not be pulled: ErrImagePull: because"),
        (pod("Pending", waiting=waiting("InvalidImageName")), Termination.NON_RETRYABLE, "InvalidImageName"),
        (pod("Pending", waiting=waiting("CreateContainerConfigError", NO_SECRET)), Termination.NON_RETRYABLE, "not found"),
        (pod("Pending", age=200, waiting=waiting("CreateContainerConfigError", SLOW_CACHE)), Termination.DISRUPTED, "secret cache"),
        (pod("Failed", terminated=terminated(255, "Unknown")), Termination.DISRUPTED, "exit code 255: Unknown"),
        (pod("Failed", terminated=terminated(137, "ContainerStatusUnknown", LOST)), Termination.DISRUPTED, "not be located"),
        (pod("Failed", reason="Evicted", terminated=terminated(143, "OOMKilled")), Termination.DISRUPTED, "Evicted"),
        (pod("Failed", reason="OutOfnvidia.com/gpu"), Termination.DISRUPTED, "OutOfnvidia.com/gpu"),
        (pod("Succeeded", terminated=terminated(0, "OOMKilled")), Termination.COMPLETED, "exit code 0: OOMKilled"),
        (pod("Failed", terminated=terminated(1, "OOMKilled")), Termination.COMPLETED, "exit code 1: OOMKilled"),
        (pod("Failed", terminated=terminated(128, "StartError", NO_PYTHON)), Termination.NON_RETRYABLE, "executable file"),
        (pod("Failed", terminated=terminated(128, "StartError", "context deadline exceeded")), Termination.DISRUPTED, "deadline"),
        (pod("Running", deleted=10, terminated=terminated(1, finished=5)), Termination.DISRUPTED, "deleted while it worked"),
        (pod("Running", deleted=10, terminated=terminated(1, finished=15)), Termination.COMPLETED, "exit code 1"),
        (pod("Failed", reason="DeadlineExceeded", waiting=waiting("ImagePullBackOff")), Termination.DISRUPTED, "because"),
        (pod("Pending", age=901), Termination.DISRUPTED, "no node took it in"),
    ],
)  # fmt: skip
def test_an_end_is_read_for_what_it_is(seen: Any, kind: Termination, words: str) -> None:
    end = end_of(seen, "base", PATIENCE, NOW)
    assert end is not None and end.kind is kind and words in end.why


@pytest.mark.parametrize(
    "seen",
    [
        pod("Pending"),
        pod("Pending", age=600, waiting=waiting("ContainerCreating")),
        pod("Pending", age=60, waiting=waiting("ImagePullBackOff")),
        pod("Pending", age=5, waiting=waiting("CreateContainerConfigError", SLOW_CACHE)),
        pod("Pending", age=5, waiting=waiting("CreateContainerError", "context deadline exceeded")),
        pod("Pending", age=5, waiting=waiting("CreateContainerConfigError", NO_SECRET)),
        pod("Running", running=k8s.V1ContainerStateRunning()),
        pod("Running", deleted=10, running=k8s.V1ContainerStateRunning()),
        pod("Unknown"),
    ],
)
def test_what_goes_on_has_not_ended(seen: Any) -> None:
    assert end_of(seen, "base", PATIENCE, NOW) is None
