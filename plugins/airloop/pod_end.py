"""How a pod terminated, read from its status alone: two tables separate disruptions from errors of the code, and passing states from final ones.

The words are those of the kubelet, the container runtimes and the control plane (docs/adr/0042). The order is that of Kubernetes' own
podFailurePolicy: a disruption is looked for before an exit code.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

DISRUPTION_TARGET = "DisruptionTarget"
"""Pod condition: preemption, eviction, a taint, the kubelet or the garbage collector ends the pod."""
DEADLINE = "DeadlineExceeded"
"""``pod.status.reason`` of a pod that ran longer than its activeDeadlineSeconds. Any other reason there names a loss: the kubelet or the
control plane writes it for a pod that they ended or never took in (Evicted, Preempting, NodeLost, OutOfcpu, UnexpectedAdmissionError…)."""
UNKNOWN = frozenset({"Unknown", "ContainerStatusUnknown"})
"""Reasons of a container whose real end is not known: the node or its runtime started again (exit code 255 or 137)."""
NEVER_STARTED = frozenset({"StartError", "ContainerCannotRun"})
"""Reasons of a container that its runtime made and could not start."""
OUT_OF_MEMORY = "OOMKilled"
STARTING = frozenset({"", "ContainerCreating", "PodInitializing"})
"""Waits of a container that makes its way. Every other wait is trouble: the kubelet tries again by itself."""
WRONG_IMAGE = "InvalidImageName"
PULLING = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "ImageInspectError", "ErrImageNeverPull"}
)
MISTAKE = re.compile(
    r"""(secret|configmap)\ "[^"]+"\ not\ found | couldn't\ find\ key | non-existent\ (secret|config)\ key
    | runAsNonRoot | will\ run\ as\ root | non-numeric\ user | unable\ to\ find\ user
    | executable\ file\ not\ found | exec:\ "[^"]+":\ (stat\ \S+\ no\ such\ file|permission\ denied|is\ a\ directory)
    | no\ command\ specified | Invalid\ value | invalid\ (reference\ format|environment)""",
    re.IGNORECASE | re.VERBOSE,
)
"""Messages that name a mistake of a person. "not found" alone does not: runtimes say so of their own sandboxes and tasks."""
SIGTERM, SIGKILL = 143, 137


class Termination(StrEnum):
    """How a pod terminated, for retry accounting."""

    COMPLETED = "completed"
    """The code ended; its exit code says how."""
    DISRUPTED = "disrupted"
    """Evicted, preempted, deleted, node gone, image not pulled: says nothing about the code."""
    NON_RETRYABLE = "non-retryable"
    """Another pod of the same specification would end the same way."""


@dataclass(frozen=True)
class End:
    """The end of one pod."""

    kind: Termination
    why: str
    """For people."""
    code: int | None = None
    """Exit code of the container, where it ended."""


@dataclass(frozen=True)
class Patience:
    """How long a pod may take for what Kubernetes retries by itself, in seconds."""

    schedule: float = 900
    """Until a node takes it, and then until it starts: one with a GPU may have to be started first, and images are large."""
    pull: float = 180
    """For trouble on the way, such as an image that cannot be pulled, or a secret's cache that is not filled yet."""
    mistake: float = 30
    """For trouble whose message names a mistake: what is missing may just be on its way."""
    deletion: float = 120
    """Until it is gone, once somebody deleted it: a dead node never confirms."""


@dataclass(frozen=True)
class Facts:
    """What a pod's status says of a container that terminated."""

    code: int
    reason: str
    mistaken: bool
    """Whether its message names a mistake of a person."""
    message: str
    pod_reason: str
    pod_message: str
    disruption: Any | None
    """The condition DisruptionTarget, where it is true."""
    deleted_first: bool
    """Whether the pod was deleted before its container ended."""

    seconds: int | None
    """The pod's deadline."""

    def words(self) -> dict[str, str]:
        """What the sentences of the table below are filled with."""
        return {
            "outcome": _words(f"exit code {self.code}", self.reason, self.message),
            "pod": _words(self.pod_reason, self.pod_message),
            "disruption": _words("the pod was ended", self.pod_reason, *_reason(self.disruption)),
            "seconds": str(self.seconds),
        }


@dataclass(frozen=True)
class Row:
    """One line of the table below."""

    applies: Callable[[Facts], bool]
    kind: Termination
    why: str


TOO_LONG = "it took longer than {seconds} s: raise `timeout_minutes` in the stage's meta in dvc.yaml"
TERMINATED = (
    Row(lambda f: f.code == 0, Termination.COMPLETED, "{outcome}"),
    Row(lambda f: f.disruption is not None, Termination.DISRUPTED, "{disruption}"),
    Row(lambda f: f.pod_reason == DEADLINE, Termination.NON_RETRYABLE, TOO_LONG),
    Row(lambda f: f.pod_reason != "", Termination.DISRUPTED, "the pod was ended: {pod}"),
    Row(lambda f: f.deleted_first, Termination.DISRUPTED, "the pod was deleted while it worked"),
    Row(lambda f: f.reason in UNKNOWN, Termination.DISRUPTED, "its end is not known, as after a node's restart: {outcome}"),
    Row(lambda f: f.reason in NEVER_STARTED and f.mistaken, Termination.NON_RETRYABLE, "the container cannot start: {outcome}"),
    Row(lambda f: f.reason in NEVER_STARTED, Termination.DISRUPTED, "the container did not start: {outcome}"),
    # With another exit code a child ran out of memory, some time before the code came to an end of its own.
    Row(lambda f: f.reason == OUT_OF_MEMORY and f.code == SIGKILL, Termination.NON_RETRYABLE,
        "it ran out of memory: raise `memory` in the stage's meta in dvc.yaml"),
    Row(lambda f: f.code != 0, Termination.COMPLETED, "{outcome}"),
)  # fmt: skip
"""How a pod terminated whose container did: the first row that applies says it."""


def end_of(
    pod: Any | None, container: str, patience: Patience, now: datetime | None = None, troubled: datetime | None = None
) -> End | None:
    """How ``pod`` terminated; None while it goes on.

    Args:
        pod: a V1Pod; None when the API server has none of that name.
        container: name of the one that does the work.
        patience: how long it may take to start, and to go.
        now: time to compare with; by default the present.
        troubled: since when it was seen to wait for something that fails (`in_trouble`); where nobody looked, since its node took it in.
    """
    if pod is None:
        return End(Termination.DISRUPTED, "the pod is gone: deleted, or its node was taken away")
    now = now or datetime.now(UTC)
    state = _state(pod, container)
    if state is not None and state.terminated is not None:
        return _terminated(state.terminated, pod)
    if pod.status.phase in {"Succeeded", "Failed"}:
        return _without_container(pod, state)
    deleted = pod.metadata.deletion_timestamp
    if deleted is not None:
        late = now - deleted > timedelta(seconds=patience.deletion)
        why = f"the pod was deleted at {deleted:%H:%M:%S} and its node has not confirmed since"
        return End(Termination.DISRUPTED, why) if late else None
    if pod.status.phase in {None, "Pending"}:
        return _pending(pod, state, patience, now, troubled)
    return None


def in_trouble(pod: Any | None, container: str) -> bool:
    """Whether ``pod`` waits for something that has failed at least once, such as its image or a secret."""
    if pod is None or pod.status.phase not in {None, "Pending"}:
        return False
    state = _state(pod, container)
    return state is not None and state.waiting is not None and (state.waiting.reason or "") not in STARTING


def deletion_requested(pod: Any) -> datetime | None:
    """When somebody deleted ``pod``; its deletion timestamp says until when it may take."""
    if pod.metadata.deletion_timestamp is None:
        return None
    grace = timedelta(seconds=pod.metadata.deletion_grace_period_seconds or 0)
    return pod.metadata.deletion_timestamp - grace  # type: ignore[no-any-return] # the client has no types


def _terminated(terminated: Any, pod: Any) -> End:
    code = int(terminated.exit_code)
    facts = Facts(
        code=code,
        reason=terminated.reason or "",
        mistaken=bool(MISTAKE.search(terminated.message or "")),
        message=terminated.message or "",
        pod_reason=pod.status.reason or "",
        pod_message=pod.status.message or "",
        disruption=_condition(pod, DISRUPTION_TARGET, "True"),
        deleted_first=_deleted_first(terminated, pod),
        seconds=_deadline(pod),
    )
    row = next(row for row in TERMINATED if row.applies(facts))
    return End(row.kind, row.why.format_map(facts.words()), code)


def _deleted_first(terminated: Any, pod: Any) -> bool:
    requested = deletion_requested(pod)
    if requested is None:
        return False
    if terminated.finished_at is None or terminated.exit_code in {SIGTERM, SIGKILL}:
        return terminated.exit_code in {SIGTERM, SIGKILL}
    return bool(terminated.finished_at >= requested)


def _without_container(pod: Any, state: Any | None) -> End:
    if pod.status.reason == DEADLINE and (state is None or state.waiting is None):
        return End(Termination.NON_RETRYABLE, TOO_LONG.format(seconds=_deadline(pod)))
    waiting = getattr(state, "waiting", None)
    why = _words(
        "the pod ended without its container", pod.status.reason, pod.status.message, getattr(waiting, "message", None)
    )
    return End(Termination.DISRUPTED, why)


def _pending(pod: Any, state: Any | None, patience: Patience, now: datetime, troubled: datetime | None) -> End | None:
    waiting = state.waiting if state is not None else None
    reason, message = (waiting.reason or "", waiting.message or "") if waiting is not None else ("", "")
    began = pod.status.start_time or pod.metadata.creation_timestamp
    if reason == WRONG_IMAGE:
        return End(Termination.NON_RETRYABLE, _words("the container cannot start", reason, message))
    if now - began > timedelta(seconds=patience.schedule):
        unscheduled = _condition(pod, "PodScheduled", "False")
        what = "it did not start" if reason or pod.status.start_time else "no node took it in"
        return End(Termination.DISRUPTED, _words(what, getattr(unscheduled, "message", None), reason, message))
    mistake = bool(MISTAKE.search(message)) and reason not in PULLING
    limit = patience.mistake if mistake else patience.pull
    if reason in STARTING or now - (troubled or began) <= timedelta(seconds=limit):
        return None
    if mistake:
        return End(Termination.NON_RETRYABLE, _words("the container cannot start", reason, message))
    what = "its image could not be pulled" if reason in PULLING else "the container did not start"
    return End(Termination.DISRUPTED, _words(what, reason, message))


def _state(pod: Any, container: str) -> Any | None:
    return next((c.state for c in pod.status.container_statuses or [] if c.name == container), None)


def _condition(pod: Any, kind: str, status: str) -> Any | None:
    return next((c for c in pod.status.conditions or [] if (c.type, c.status) == (kind, status)), None)


def _deadline(pod: Any) -> int | None:
    return pod.spec.active_deadline_seconds if pod.spec else None


def _reason(condition: Any | None) -> tuple[str | None, str | None]:
    return (condition.reason, condition.message) if condition is not None else (None, None)


def _words(what: str, *more: str | None) -> str:
    return ": ".join([what, *(text for text in more if text)])
