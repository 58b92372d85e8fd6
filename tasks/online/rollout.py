"""Waiting for a Deployment's rollout, and why its pods are not ready when it fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tasks.online import REFUSED, AwayError, Check, FaultyError, waits


def version_mark(model: str) -> str:
    """Annotation of the pods: which version of ``model`` they are for."""
    return f"airloop.io/version-of-{model}"


POLL_SECONDS = 1.0
GRACE_SECONDS = 60
"""Beyond the Deployment's own progress deadline, for a controller that is away."""


class Rollout:
    """One rollout, followed until every replica is new and ready.

    Args:
        model: name of the model.
        version: of the model, of the new pods.
        generation: of the Deployment, from which the rollout counts.
        read: gives the Deployment as it is.
        pods: gives its pods.
    """

    def __init__(
        self, model: str, version: int, generation: int, read: Callable[[], Any], pods: Callable[[Any], list[Any]]
    ) -> None:
        self._model, self._version, self._generation = model, version, generation
        self._read, self._pods = read, pods

    def wait(self, check: Check) -> int:
        """Return the number of replicas once all are new and available.

        Raises:
            FaultyError: a pod says that it can never serve this version.
            AwayError: the rollout makes no progress until its deadline, or the cluster does nothing at all. That may be the image's
                fault, the nodes' or the store's: it is no evidence about the version.
            SupersededError: what ``check`` raises.
        """
        clock = waits.CLOCK
        shown, since, given_up = "", clock.now(), False
        while True:
            check()
            found = self._read()
            done, state = progress(found, self._generation)
            if done:
                return int(found.spec.replicas)
            if state != shown:
                print(f"rolling out v{self._version}: {state}", flush=True)
                shown, since = state, clock.now()
            self._refuse_failed(found)
            # Twice: the condition of the rollout before may be there for a moment beside the new generation.
            if given_up and deadline_exceeded(found):
                raise AwayError(
                    f"The rollout of v{self._version} is at {state!r} and makes no progress{self._reasons(found)}. That is no evidence "
                    "about the version, so the ledger stays as it is: mend the cause and clear this task, or roll back."
                )
            given_up = deadline_exceeded(found)
            patience = (found.spec.progress_deadline_seconds or 600) + GRACE_SECONDS
            if clock.now() - since > patience:
                raise AwayError(
                    f"The rollout of v{self._version} has been at {state!r} for {patience} s and the cluster does not say "
                    f"why{self._reasons(found)}. The ledger is written: clear this task when the cluster works again."
                )
            clock.sleep(POLL_SECONDS)

    def _refuse_failed(self, found: Any) -> None:
        for pod in self._new_pods(found):
            if (why := refusal(pod, self._model, self._version)) is not None:
                raise FaultyError(f"{pod.metadata.name} ended: {why}")

    def _new_pods(self, found: Any) -> list[Any]:
        marked = (pod for pod in self._pods(found) if pod.metadata.deletion_timestamp is None)
        return [pod for pod in marked if marks(pod).get(self._model) == str(self._version)]

    def _reasons(self, found: Any) -> str:
        refused = [c.message for c in found.status.conditions or [] if c.type == "ReplicaFailure"]
        said = refused + [f"{pod.metadata.name}: {why}" for pod in self._new_pods(found) if (why := unready(pod))]
        return f" ({'; '.join(said)})" if said else ""


def progress(found: Any, generation: int) -> tuple[bool, str]:
    """Whether the rollout is complete, and its state: what `kubectl rollout status` goes by."""
    status, wanted = found.status, found.spec.replicas
    if (status.observed_generation or 0) < generation:
        return False, "the cluster has not seen it yet"
    updated, available = status.updated_replicas or 0, status.available_replicas or 0
    if updated < wanted:
        return False, f"{updated} of {wanted} replicas are new"
    if (old := (status.replicas or 0) - updated) > 0:
        return False, f"{old} old replicas are still there"
    if available < updated:
        return False, f"{available} of {wanted} new replicas are ready"
    return True, f"all {wanted} replicas are new and ready"


def deadline_exceeded(found: Any) -> bool:
    """Whether the Deployment's controller has given the rollout up."""
    conditions = found.status.conditions or []
    return any(c.type == "Progressing" and c.reason == "ProgressDeadlineExceeded" for c in conditions)


def marks(pod: Any) -> dict[str, str]:
    """The model versions that a pod is for, by model."""
    found = (pod.metadata.annotations or {}).items()
    return {
        name.removeprefix(version_mark("")): version for name, version in found if name.startswith(version_mark(""))
    }


def refusal(pod: Any, model: str, version: int) -> str | None:
    """What a replica said that ended because it can never serve this version; None when it did not.

    A replica of several models may have ended for another one's sake: then it says which.
    """
    for container in pod.status.container_statuses or []:
        for state in (container.state, container.last_state):
            ended = state.terminated if state else None
            if ended is None or ended.exit_code != REFUSED:
                continue
            said = ended.message or ""
            if said.startswith(f"{model}: v{version} is refused") or set(marks(pod)) == {model}:
                return said or "it refused its model"
    return None


def unready(pod: Any) -> str | None:
    """Why a pod is not ready, in its own words or the cluster's; None when it is."""
    conditions = {c.type: c for c in pod.status.conditions or []}
    if "Ready" in conditions and conditions["Ready"].status == "True":
        return None
    for container in pod.status.container_statuses or []:
        if (waiting := container.state.waiting) is not None:
            last = container.last_state.terminated if container.last_state else None
            before = f", after exit code {last.exit_code}: {last.message or last.reason}" if last else ""
            return f"{waiting.reason}{f' ({waiting.message})' if waiting.message else ''}{before}"
    if "PodScheduled" in conditions and conditions["PodScheduled"].status != "True":
        return f"{conditions['PodScheduled'].reason} ({conditions['PodScheduled'].message})"
    return "it runs and does not become ready; its /readyz and its log say why"
