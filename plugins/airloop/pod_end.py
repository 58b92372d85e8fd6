"""How a pod ended, read from its status alone: one place that tells the loss of a pod from an error of its code."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

LOST_REASONS = frozenset(
    {
        "Evicted", "Preempting", "NodeLost", "NodeShutdown", "Shutdown", "Terminated", "NodeAffinity",
        "OutOfcpu", "OutOfmemory", "OutOfpods", "OutOfephemeral-storage", "UnexpectedAdmissionError",
    }
)  # fmt: skip
"""``pod.status.reason`` of a pod that its node, not its code, ended or never took in."""
DISRUPTED = "DisruptionTarget"
"""Pod condition: preemption, eviction, a taint or the garbage collector is about to end the pod."""
PULLING = frozenset({"ErrImagePull", "ImagePullBackOff", "RegistryUnavailable"})
"""Container waits that often heal by themselves or on another node."""
WRONG_IMAGE = frozenset({"InvalidImageName", "ErrImageNeverPull"})
NEVER_STARTS = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
"""Container waits that name a mistake: a secret that is not there, a user the image lacks."""
SIGTERM, SIGKILL = 143, 137


class Kind(StrEnum):
    """Which budget an end counts against."""

    ENDED = "ended"
    """The code ended; its exit code says how."""
    LOST = "lost"
    """Evicted, preempted, deleted, node gone, image not pulled: says nothing about the code."""
    HOPELESS = "hopeless"
    """Another pod of the same specification would end the same way."""


@dataclass(frozen=True)
class End:
    """The end of one pod."""

    kind: Kind
    why: str
    """For people."""
    code: int | None = None
    """Exit code of the container, where it ended."""


@dataclass(frozen=True)
class Patience:
    """How long a pod may take for what Kubernetes retries by itself, in seconds."""

    schedule: float = 900
    """Until a node takes it: one with a GPU may have to be started first."""
    pull: float = 180
    """Until its image is there, once it could not be pulled."""
    deletion: float = 120
    """Until it is gone, once somebody deleted it: a dead node never confirms."""


def end_of(pod: Any | None, container: str, patience: Patience, now: datetime | None = None) -> End | None:
    """How ``pod`` (a V1Pod, None when the API server has none of that name) ended; None while it goes on."""
    if pod is None:
        return End(Kind.LOST, "the pod is gone: deleted, or its node was taken away")
    now = now or datetime.now(UTC)
    status = pod.status
    state = _state(pod, container)
    disruption = next((c for c in status.conditions or [] if c.type == DISRUPTED and c.status == "True"), None)
    deleted = pod.metadata.deletion_timestamp
    if state is not None and state.terminated is not None:
        return _terminated(state.terminated, pod, disruption)
    if status.phase in {"Succeeded", "Failed"}:
        without = _words("the pod ended without its container", status.reason, status.message)
        late = status.reason == "DeadlineExceeded"
        return End(Kind.HOPELESS, _too_long(pod)) if late else End(Kind.LOST, without)
    if deleted is not None and now - deleted > timedelta(seconds=patience.deletion):
        return End(Kind.LOST, f"the pod was deleted at {deleted:%H:%M:%S} and its node has not confirmed since")
    if deleted is None and status.phase in {None, "Pending"}:
        return _pending(pod, state, patience, now)
    return None


def _terminated(terminated: Any, pod: Any, disruption: Any | None) -> End:
    code = int(terminated.exit_code)
    if terminated.reason == "OOMKilled":
        return End(Kind.HOPELESS, "it ran out of memory: raise `memory` in the stage's meta in dvc.yaml", code)
    if pod.status.reason == "DeadlineExceeded":
        return End(Kind.HOPELESS, _too_long(pod), code)
    # A deleted or disrupted pod's code is ended by a signal, or says itself that it was interrupted.
    if code and pod.status.reason in LOST_REASONS:
        return End(Kind.LOST, _words("the pod was ended", pod.status.reason, pod.status.message), code)
    if code and disruption is not None:
        return End(Kind.LOST, _words("the pod was ended", disruption.reason, disruption.message), code)
    if code in {SIGTERM, SIGKILL} and pod.metadata.deletion_timestamp is not None:
        return End(Kind.LOST, "the pod was deleted while it worked", code)
    return End(Kind.ENDED, _words(f"exit code {code}", terminated.reason, terminated.message), code)


def _pending(pod: Any, state: Any | None, patience: Patience, now: datetime) -> End | None:
    age = now - pod.metadata.creation_timestamp
    waiting = state.waiting if state is not None else None
    reason, message = (waiting.reason, waiting.message) if waiting is not None else (None, None)
    if reason in WRONG_IMAGE | NEVER_STARTS:
        return End(Kind.HOPELESS, _words("the container cannot start", reason, message))
    if reason in PULLING and age > timedelta(seconds=patience.pull):
        return End(Kind.LOST, _words("its image could not be pulled", reason, message))
    if age > timedelta(seconds=patience.schedule):
        scheduled = next((c for c in pod.status.conditions or [] if c.type == "PodScheduled"), None)
        return End(Kind.LOST, _words("no node took it in", getattr(scheduled, "message", None), reason))
    return None


def _state(pod: Any, container: str) -> Any | None:
    return next((c.state for c in pod.status.container_statuses or [] if c.name == container), None)


def _too_long(pod: Any) -> str:
    seconds = pod.spec.active_deadline_seconds
    return f"it took longer than {seconds} s: raise `timeout_minutes` in the stage's meta in dvc.yaml"


def _words(what: str, *more: str | None) -> str:
    return ": ".join([what, *(text for text in more if text)])
