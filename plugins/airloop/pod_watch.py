"""Looking at one pod until it ends: patient with an API server that is away, and showing the log as it grows."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from airloop.pod_end import End, Patience, end_of, in_trouble
from airloop.process import CommandError

POLL_SECONDS = 2.0
API_PATIENCE_SECONDS = 600.0
"""How long the API server may be away (an upgrade of the control plane takes minutes); the pod works on meanwhile."""
HEALS = frozenset({408, 409, 429, 500, 502, 503, 504})
"""Statuses of the API server that say nothing about the request."""
UNAUTHORISED, NOT_FOUND, CONFLICT = 401, 404, 409
TAIL_LINES = 1000

Answer = TypeVar("Answer")


class Stopped(Exception):  # noqa: N818 - it is a wish, not an error
    """The worker is asked to end."""


class PodWatch:
    """The operator's present pod.

    Args:
        operator: a KubernetesPodOperator whose ``pod`` is set, or about to be.
        since: time up to which its log was shown already.
    """

    def __init__(self, operator: Any, since: str | datetime | None = None) -> None:
        self.last = ""
        """The last line of its log that is not empty: of a crash, the exception."""
        self.seen: Any | None = None
        """The pod as last seen."""
        self.troubled: dict[str, datetime] = {}
        """By pod's name, since when it was seen to wait for something that fails."""
        self._operator = operator
        self._shown = _stamp(since) if since else ""

    def patiently(self, ask: Callable[[], Answer]) -> Answer:
        """What ``ask`` returns; asked again while the API server is away. CommandError after API_PATIENCE_SECONDS."""
        away_since: float | None = None
        while True:
            try:
                return ask()
            except (ApiException, HTTPError, OSError) as error:
                status = getattr(error, "status", None)
                if status == UNAUTHORISED and away_since is None:
                    self._operator._refresh_cached_properties()  # noqa: SLF001 - a token that has run out; the operator's own way
                elif isinstance(error, ApiException) and status not in HEALS | {None, 0}:
                    raise
                if away_since is None:
                    away_since = time.monotonic()
                    self._operator.log.warning(
                        "The Kubernetes API does not answer (%s); waiting for it.", _short(error)
                    )
                elif time.monotonic() - away_since > API_PATIENCE_SECONDS:
                    raise CommandError(
                        f"The Kubernetes API has not answered for {API_PATIENCE_SECONDS:.0f} s: {_short(error)}. "
                        "The pod is left to work; the next try finds it."
                    ) from error
                time.sleep(POLL_SECONDS)

    def read(self) -> Any | None:
        """The pod now; None when there is none of its name."""
        metadata = self._operator.pod.metadata

        def ask() -> Any | None:
            try:
                return self._operator.client.read_namespaced_pod(metadata.name, metadata.namespace)
            except ApiException as error:
                if error.status == NOT_FOUND:
                    return None
                raise

        pod = self.patiently(ask)
        self.seen = pod or self.seen
        self.note_trouble([pod] if pod is not None else [])
        return pod

    def note_trouble(self, pods: list[Any]) -> None:
        """Keep since when each of ``pods`` is in trouble: its status does not say."""
        now = datetime.now(UTC)
        container = self._operator.base_container_name
        names = [pod.metadata.name for pod in pods if in_trouble(pod, container)]
        self.troubled = {name: self.troubled.get(name, now) for name in names}

    def find(self, namespace: str, selector: str) -> list[Any]:
        """Pods of earlier tries."""
        client = self._operator.client
        return list(self.patiently(lambda: client.list_namespaced_pod(namespace, label_selector=selector)).items)

    def create(self) -> None:
        """Create the operator's pod; safe to ask again when the answer got lost, since its name is fixed."""
        pod = self._operator.pod

        def ask() -> None:
            try:
                self._operator.client.create_namespaced_pod(pod.metadata.namespace, pod)
            except ApiException as error:
                if not (error.status == CONFLICT and "already exists" in str(error.body)):
                    raise

        self.patiently(ask)

    def delete(self, pod: Any, *, at_once: bool = False) -> None:
        """Delete ``pod``, unless somebody did."""
        name, namespace = pod.metadata.name, pod.metadata.namespace
        grace = {"grace_period_seconds": 0} if at_once else {}

        def ask() -> None:
            try:
                self._operator.client.delete_namespaced_pod(name, namespace, **grace)
            except ApiException as error:
                if error.status != NOT_FOUND:
                    raise

        self.patiently(ask)

    def to_the_end(self, patience: Patience) -> End:
        """Show the log as it grows; returns how the pod ended. Stopped when this worker is asked to end before."""
        waiting = ""
        while True:
            if self._operator.stopped:
                raise Stopped
            pod = self.read()
            self.show(pod)
            since = self.troubled.get(pod.metadata.name) if pod is not None else None
            if end := end_of(pod, self._operator.base_container_name, patience, troubled=since):
                return end
            if (now := _waiting_for(pod)) != waiting:
                waiting = now
                if waiting:
                    self._operator.log.info("waiting: %s", waiting)
            time.sleep(POLL_SECONDS)

    def show(self, pod: Any | None, *, whole: bool = False) -> None:
        """Log what the container has written since the last time. A log that cannot be read is no reason to fail.

        With ``whole``, what was shown before is read as well: the last line may be there.
        """
        if pod is None or pod.status.phase in {None, "Pending"}:
            return
        try:
            answer = self._operator.client.read_namespaced_pod_log(
                pod.metadata.name,
                pod.metadata.namespace,
                container=self._operator.base_container_name,
                timestamps=True,
                _preload_content=False,  # or the client answers the repr() of the bytes
                **({"tail_lines": TAIL_LINES} if whole else self._since_seconds()),
            )
        except (ApiException, HTTPError, OSError):
            return  # the next look, or the end of the pod, says more
        for line in answer.data.decode(errors="backslashreplace").splitlines():
            stamp, _, said = line.partition(" ")
            new = stamp > self._shown
            if new or whole:
                self.last = said.rstrip() or self.last
            if new:
                self._shown = stamp
                self._operator.log.info("%s", said)

    def seconds(self, created: float) -> float:
        """For how long the pod has held its resources; since it was ``created``, if nobody saw it since."""
        return time.time() - created if self.seen is None else held(self.seen)

    def _since_seconds(self) -> dict[str, int]:
        """Ask only for what is new, and a little more: the API counts in whole seconds."""
        if not self._shown:
            return {}
        shown = datetime.fromisoformat(self._shown[:19] + "Z")
        return {"since_seconds": int((datetime.now(UTC) - shown).total_seconds()) + 2}


def held(pod: Any) -> float:
    """For how many seconds ``pod`` (a V1Pod) has held what it asked for; until now, if nothing says that it ended."""
    if pod.status.start_time is None:
        return 0.0
    ended = [c.state.terminated.finished_at for c in pod.status.container_statuses or [] if c.state.terminated]
    # A container whose end is not known is reported to have ended in the year 1.
    last = max([end for end in ended if end and end >= pod.status.start_time], default=datetime.now(UTC))
    return float((last - pod.status.start_time).total_seconds())


def _stamp(moment: str | datetime) -> str:
    """As the API writes the times of log lines."""
    moment = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _waiting_for(pod: Any) -> str:
    """Why a pod has not started, as far as Kubernetes says."""
    if pod is None or pod.status.phase != "Pending":
        return ""
    waits = [c.state.waiting for c in pod.status.container_statuses or [] if c.state.waiting]
    if waits:
        return ": ".join(text for text in (waits[0].reason, waits[0].message) if text)
    unscheduled = [c for c in pod.status.conditions or [] if c.type == "PodScheduled" and c.status != "True"]
    return str(unscheduled[0].message or unscheduled[0].reason) if unscheduled else "a node"


def _short(error: Exception) -> str:
    return str(getattr(error, "reason", None) or error)[:200]
