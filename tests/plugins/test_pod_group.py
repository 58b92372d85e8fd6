"""Which of a group's pods says how the group ended, and what the group's Job looks like."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from airloop.pod_end import Patience, Termination, end_of
from airloop.pod_group import RANK, decisive_pod, job_of, service_of
from kubernetes.client import models as k8s

NOW = dt.datetime(2026, 11, 25, 12, 0, tzinfo=dt.UTC)


def at(seconds: float) -> dt.datetime:
    return NOW + dt.timedelta(seconds=seconds)


def pod(rank: int, code: int | None = None, ended: float = 0, *, deleted: float | None = None, **status: Any) -> Any:
    """A pod that runs, or ended with ``code``; ``deleted`` is when somebody asked for that."""
    state = k8s.V1ContainerState(running=k8s.V1ContainerStateRunning())
    if code is not None:
        state = k8s.V1ContainerState(terminated=k8s.V1ContainerStateTerminated(exit_code=code, finished_at=at(ended)))
    container = k8s.V1ContainerStatus(name="base", image="x", image_id="", ready=False, restart_count=0, state=state)
    metadata = k8s.V1ObjectMeta(name=f"train-{rank}", labels={RANK: str(rank)}, creation_timestamp=at(-60))
    if deleted is not None:
        metadata.deletion_timestamp, metadata.deletion_grace_period_seconds = at(deleted + 30), 30
    phase = "Running" if code is None else "Failed" if code else "Succeeded"
    return k8s.V1Pod(metadata=metadata, status=k8s.V1PodStatus(phase=phase, container_statuses=[container], **status))


def disrupted() -> dict[str, Any]:
    return {"conditions": [k8s.V1PodCondition(type="DisruptionTarget", status="True", reason="EvictionByEvictionAPI")]}


def job(*conditions: str) -> Any:
    return k8s.V1Job(
        metadata=k8s.V1ObjectMeta(name="train", creation_timestamp=at(-60)),
        spec=k8s.V1JobSpec(completions=2, template=k8s.V1PodTemplateSpec(spec=k8s.V1PodSpec(containers=[]))),
        status=k8s.V1JobStatus(conditions=[k8s.V1JobCondition(type=c, status="True") for c in conditions]),
    )


@pytest.mark.parametrize(
    ("pods", "name", "kind"),
    [
        ([pod(0), pod(1)], "train-0", None),
        ([pod(0), pod(1, 0)], "train-0", None),  # done before rank 0 has written
        ([pod(0, 0, 5), pod(1)], "train-0", Termination.COMPLETED),
        ([pod(0, 0, 5), pod(1, 143, 6, deleted=5)], "train-0", Termination.COMPLETED),
        # Rank 1 is evicted; rank 0 cannot go on, and says so first.
        ([pod(0, 1, 3), pod(1, 143, 5, deleted=2, **disrupted())], "train-1", Termination.DISRUPTED),
        ([pod(0, 143, 5, deleted=2, **disrupted()), pod(1, 143, 5)], "train-0", Termination.DISRUPTED),
        # Somebody deletes rank 1, and rank 0 ends as it was asked to by rank 1.
        ([pod(0, 143, 3), pod(1, 143, 3, deleted=1)], "train-1", Termination.DISRUPTED),
        # Rank 1's code fails; the Job then deletes rank 0.
        ([pod(0, 143, 3, deleted=2), pod(1, 1, 2)], "train-1", Termination.COMPLETED),
        ([pod(0, 137, 9, deleted=2), pod(1, 1, 1)], "train-1", Termination.COMPLETED),
        # Its node went away with all that it knew.
        ([pod(0, 1, 3)], "train", Termination.DISRUPTED),
        ([], "train", None),
    ],
)  # fmt: skip
def test_the_pod_whose_end_is_the_group_s(pods: list[Any], name: str, kind: Termination | None) -> None:
    decisive = decisive_pod(job(), pods, "base", Patience(), at(10))
    end = end_of(decisive, "base", Patience(), at(10))
    assert (decisive.metadata.name, end and end.kind) == (name, kind)


def test_a_group_without_a_pod_that_failed_is_lost() -> None:
    decisive = decisive_pod(job("Failed"), [], "base", Patience(), at(10))
    end = end_of(decisive, "base", Patience(), at(10))
    assert end is not None and end.kind is Termination.DISRUPTED


def template() -> Any:
    own = k8s.V1EnvVarSource(field_ref=k8s.V1ObjectFieldSelector(field_path="metadata.name"))
    container = k8s.V1Container(name="base", env=[k8s.V1EnvVar(name="AIRLOOP_POD", value_from=own)])
    metadata = k8s.V1ObjectMeta(name="airloop-train-x1", namespace="ml", labels={"airloop.io/stage": "train"})
    return k8s.V1Pod(metadata=metadata, spec=k8s.V1PodSpec(containers=[container]))


def test_each_pod_is_told_its_part_as_torchrun_reads_it() -> None:
    made = job_of(template(), 3)
    assert (made.spec.completion_mode, made.spec.completions, made.spec.parallelism) == ("Indexed", 3, 3)
    assert made.spec.backoff_limit == 0
    env = {each.name: each for each in made.spec.template.spec.containers[0].env}
    assert {name: each.value for name, each in env.items() if each.value} == {
        "AIRLOOP_POD": "airloop-train-x1", "PET_NNODES": "3", "PET_MASTER_ADDR": "airloop-train-x1-0.airloop-train-x1",
        "PET_MASTER_PORT": "29500",
    }  # fmt: skip
    assert env["PET_NODE_RANK"].value_from.field_ref.field_path == f"metadata.labels['{RANK}']"
    assert [name for name in env if name == "AIRLOOP_POD"] == ["AIRLOOP_POD"], "rank 0 records under the Job's name"


def test_the_names_are_there_before_anyone_is_ready_and_go_with_the_job() -> None:
    made = job_of(template(), 2)
    made.metadata.uid = "u1"
    service = service_of(made)
    assert service.metadata.name == made.spec.template.spec.subdomain == "airloop-train-x1"
    assert service.spec.cluster_ip == "None" and service.spec.publish_not_ready_addresses
    assert service.spec.selector == {"batch.kubernetes.io/job-name": "airloop-train-x1"}
    (owner,) = service.metadata.owner_references
    assert (owner.kind, owner.name, owner.uid) == ("Job", "airloop-train-x1", "u1")
