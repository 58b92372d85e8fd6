"""One stage in several pods that work together: an Indexed Job, and a headless Service by which they find each other.

Torchrun's own variables give each pod its part (PET_NNODES, PET_NODE_RANK, PET_MASTER_ADDR, PET_MASTER_PORT). Rank 0 records the
result, under the Job's name. A group lives and ends as one: when any of its pods is lost, the others cannot go on without it, so the Job
fails, and the operator starts another group from the newest checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from kubernetes import client
from kubernetes.client import models as k8s
from kubernetes.client.exceptions import ApiException

from airloop.pod_end import (
    DISRUPTION_TARGET,
    SIGKILL,
    SIGTERM,
    End,
    Patience,
    Termination,
    deletion_requested,
    end_of,
)
from airloop.pod_watch import CONFLICT, NOT_FOUND, PodWatch, held

RANK = "batch.kubernetes.io/job-completion-index"
JOB = "batch.kubernetes.io/job-name"
GROUP = "airloop.io/group"
"""Label of pods that may talk to each other (kubernetes/base/network-policies.yaml)."""
PORT = 29500
FORGOTTEN_SECONDS = 3600
"""After which the cluster deletes a group that ended and that no worker came back for."""


def job_of(pod: k8s.V1Pod, nodes: int) -> k8s.V1Job:
    """The Job of ``nodes`` pods like ``pod``, under its name."""
    name = pod.metadata.name
    labels = {**pod.metadata.labels, GROUP: name}
    container = pod.spec.containers[0]
    rank = k8s.V1EnvVarSource(field_ref=k8s.V1ObjectFieldSelector(field_path=f"metadata.labels['{RANK}']"))
    own = [each for each in container.env if each.name != "AIRLOOP_POD"]
    container.env = [
        *own,
        k8s.V1EnvVar(name="AIRLOOP_POD", value=name),
        k8s.V1EnvVar(name="PET_NNODES", value=str(nodes)),
        k8s.V1EnvVar(name="PET_NODE_RANK", value_from=rank),
        k8s.V1EnvVar(name="PET_MASTER_ADDR", value=f"{name}-0.{name}"),
        k8s.V1EnvVar(name="PET_MASTER_PORT", value=str(PORT)),
    ]
    pod.spec.subdomain = name
    pod.spec.restart_policy = "Never"
    return k8s.V1Job(
        api_version="batch/v1",
        kind="Job",
        metadata=k8s.V1ObjectMeta(name=name, namespace=pod.metadata.namespace, labels=labels),
        spec=k8s.V1JobSpec(
            completion_mode="Indexed",
            completions=nodes,
            parallelism=nodes,
            backoff_limit=0,  # which pods are started again, and how often, is the operator's to say
            ttl_seconds_after_finished=FORGOTTEN_SECONDS,
            template=k8s.V1PodTemplateSpec(
                metadata=k8s.V1ObjectMeta(labels=labels, annotations=pod.metadata.annotations), spec=pod.spec
            ),
        ),
    )


def service_of(job: k8s.V1Job) -> k8s.V1Service:
    """Names for the pods of ``job``, as it exists: ``<job>-<rank>.<job>``. It goes when the Job does."""
    name = job.metadata.name
    owner = k8s.V1OwnerReference(api_version="batch/v1", kind="Job", name=name, uid=job.metadata.uid)
    return k8s.V1Service(
        api_version="v1",
        kind="Service",
        metadata=k8s.V1ObjectMeta(
            name=name, namespace=job.metadata.namespace, labels=job.metadata.labels, owner_references=[owner]
        ),
        spec=k8s.V1ServiceSpec(
            cluster_ip="None",
            selector={JOB: name},
            publish_not_ready_addresses=True,  # they are ready when they have met, and meet by these names
            ports=[k8s.V1ServicePort(name="rendezvous", port=PORT)],
        ),
    )


class GroupWatch(PodWatch):
    """The operator's present group, seen as one pod: the one whose end is the group's, else rank 0.

    Args:
        operator: a StagePodOperator whose ``pod`` has the Job's name.
        patience: for pods that do not start.
        since: as PodWatch has it.
    """

    def __init__(self, operator: Any, patience: Patience, since: str | datetime | None = None) -> None:
        super().__init__(operator, since)
        self._patience = patience
        self._followed = ""
        self._members: list[Any] = []

    @property
    def _jobs(self) -> Any:
        return client.BatchV1Api(self._operator.client.api_client)

    def create(self) -> None:
        """Create the Job and its Service; safe to ask again."""
        pod = self._operator.pod
        nodes = self._operator.spec.nodes
        namespace = pod.metadata.namespace
        body = job_of(pod, nodes)
        self._once(lambda: self._jobs.create_namespaced_job(namespace, body))
        job = self.patiently(lambda: self._jobs.read_namespaced_job(pod.metadata.name, namespace))
        self._once(lambda: self._operator.client.create_namespaced_service(namespace, service_of(job)))

    def delete(self, pod: Any, *, at_once: bool = False) -> None:
        """Delete the group of ``pod``, which may be any of its pods, and all that belongs to it."""
        name = (pod.metadata.labels or {}).get(JOB, pod.metadata.name)
        grace = {"grace_period_seconds": 0} if at_once else {}

        def ask() -> None:
            try:
                self._jobs.delete_namespaced_job(name, pod.metadata.namespace, propagation_policy="Background", **grace)
            except ApiException as error:
                if error.status != NOT_FOUND:
                    raise

        self.patiently(ask)

    def find(self, namespace: str, selector: str) -> list[Any]:
        """Groups of earlier tries, each as a pod of the Job's name."""
        jobs = self.patiently(lambda: self._jobs.list_namespaced_job(namespace, label_selector=selector)).items
        return [_placeholder(job, "Failed" if _over(job) else "Running") for job in jobs]

    def read(self) -> Any | None:
        """The pod that decides the outcome of the group now; None when there is no group of its name."""
        metadata = self._operator.pod.metadata

        def ask() -> Any | None:
            try:
                job = self._jobs.read_namespaced_job(metadata.name, metadata.namespace)
            except ApiException as error:
                if error.status == NOT_FOUND:
                    return None
                raise
            found = self._operator.client.list_namespaced_pod(
                metadata.namespace, label_selector=f"{JOB}={metadata.name}"
            )
            self._members = found.items or self._members
            self.note_trouble(found.items)
            container = self._operator.base_container_name
            return decisive_pod(job, found.items, container, self._patience, troubled=self.troubled)

        pod = self.patiently(ask)
        self.seen = pod or self.seen
        return pod

    def show(self, pod: Any | None, *, whole: bool = False) -> None:
        """Log what the pod that decides the outcome of the group wrote; from its beginning, where another spoke before."""
        if pod is not None and pod.metadata.name != self._followed:
            if self._followed:
                self._shown = ""
                self._operator.log.info("%s says:", pod.metadata.name)
            self._followed = pod.metadata.name
        super().show(pod, whole=whole)

    def seconds(self, created: float) -> float:
        """For how long its pods held their resources, together."""
        return (
            sum(held(pod) for pod in self._members)
            if self._members
            else super().seconds(created) * self._operator.spec.nodes
        )

    def _once(self, create: Callable[[], object]) -> None:
        def ask() -> None:
            try:
                create()
            except ApiException as error:
                if error.status != CONFLICT:
                    raise

        self.patiently(ask)


def decisive_pod(
    job: Any,
    pods: list[Any],
    container: str,
    patience: Patience,
    now: datetime | None = None,
    troubled: Mapping[str, datetime] | None = None,
) -> Any:
    """Of a group's pods, the one whose end is the group's; rank 0 while all go on.

    When one pod is lost, the others end soon after, by what they see of it or by the Job; when one fails by itself, the Job deletes
    the others. So a disruption of any outweighs what the others say, and of the rest the first to end says why.

    Args:
        job: a V1Job.
        pods: those of it that exist.
        container: name of the one that does the work.
        patience: how long a pod may take to start, and to go.
        now: time to compare with; by default the present.
        troubled: by pod's name, since when it waits for something that fails.
    """
    now, troubled = now or datetime.now(UTC), troubled or {}
    by_rank = {pod.metadata.labels[RANK]: pod for pod in pods}
    if not pods:
        return _placeholder(job, "Failed" if _over(job) else "Pending")
    found = {
        rank: end_of(pod, container, patience, now, troubled.get(pod.metadata.name)) for rank, pod in by_rank.items()
    }
    ends = {rank: end for rank, end in found.items() if end is not None}
    first = ends.get("0")
    if first is not None and first.kind is Termination.COMPLETED and first.code == 0:
        return by_rank["0"]
    bad = {rank: end for rank, end in ends.items() if end.code != 0 or end.kind is not Termination.COMPLETED}
    if not bad:
        return by_rank.get("0", pods[0])
    order = {rank: _order(by_rank[rank], end) for rank, end in bad.items()}
    decisive = min(order, key=lambda rank: (*order[rank], rank))
    vanished = len(by_rank) < job.spec.completions
    return _placeholder(job, "Failed") if vanished and order[decisive][0] > 0 else by_rank[decisive]


def _order(pod: Any, end: End) -> tuple[int, datetime, bool]:
    """What says more about why a group ended comes first."""
    disrupted = any(c.type == DISRUPTION_TARGET and c.status == "True" for c in pod.status.conditions or [])
    deleted = pod.metadata.deletion_timestamp and not pod.status.reason  # by a person, or by the Job for another's end
    if end.kind is Termination.NON_RETRYABLE or disrupted or (end.kind is Termination.DISRUPTED and not deleted):
        weight = 0
    elif end.kind is Termination.COMPLETED and end.code in {SIGTERM, SIGKILL}:
        weight = 2  # it was asked to end, for a reason that another knows
    else:
        weight = 1
    return weight, _when(pod), end.kind is Termination.DISRUPTED


def _when(pod: Any) -> datetime:
    """When its end began: when it was deleted, or its container ended."""
    ended = [c.state.terminated.finished_at for c in pod.status.container_statuses or [] if c.state.terminated]
    moments = [each for each in ended if each]
    if requested := deletion_requested(pod):
        moments.append(requested)
    return min(moments, default=datetime.max.replace(tzinfo=UTC))


def _placeholder(job: Any, phase: str) -> k8s.V1Pod:
    """A pod of the Job's name, where none of its own decides."""
    return k8s.V1Pod(metadata=job.metadata, spec=job.spec.template.spec, status=k8s.V1PodStatus(phase=phase))


def _over(job: Any) -> bool:
    conditions = (job.status.conditions if job.status else None) or []
    return bool(job.metadata.deletion_timestamp) or any(
        c.type in {"Complete", "Failed", "FailureTarget", "SuccessCriteriaMet"} and c.status == "True"
        for c in conditions
    )
