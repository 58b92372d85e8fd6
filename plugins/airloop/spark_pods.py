"""Spark's executors as pods: what they used is logged, and none is left behind however their driver ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from airloop.pod_spec import gibibytes
from airloop.pod_watch import NOT_FOUND, held


class Executors:
    """The executors of one stage of one run.

    Args:
        api: a CoreV1Api.
        namespace: theirs.
        labels: what they have in common, besides being executors.
        log: a task's log.
    """

    def __init__(self, api: Any, namespace: str, labels: Mapping[str, str], log: Any) -> None:
        self._api = api
        self._namespace = namespace
        self._selector = ",".join(f"{name}={value}" for name, value in {**labels, "spark-role": "executor"}.items())
        self._log = log

    def remove(self) -> list[dict[str, Any]]:
        """Delete them, those of earlier tries too; returns what each used, as the run's record has it.

        An API server that is away is no reason to lose a result: it is logged, and the executors go with their driver's pod.
        """
        used = []
        try:
            for pod in self._api.list_namespaced_pod(self._namespace, label_selector=self._selector).items:
                used.append(usage(pod))
                self._delete(pod.metadata.name)
        except (ApiException, HTTPError, OSError) as error:
            self._log.warning(
                "Executors with %s in %s may be left: %s", self._selector, self._namespace, str(error)[:200]
            )
        return used

    def _delete(self, name: str) -> None:
        try:
            self._api.delete_namespaced_pod(name, self._namespace)
        except ApiException as error:
            if error.status != NOT_FOUND:
                raise


def usage(pod: Any) -> dict[str, Any]:
    """Cores, GiB and seconds of one executor (a V1Pod); of one that never started, 0 seconds."""
    container = pod.spec.containers[0]
    asked = container.resources.requests
    return {
        "pod": pod.metadata.name,
        "stage": pod.metadata.labels["airloop.io/stage"],
        "spot": False,
        "seconds": round(held(pod), 1),
        "cpu": float(asked["cpu"].removesuffix("m")) / (1000 if asked["cpu"].endswith("m") else 1),
        "memory_gib": round(gibibytes(asked["memory"]), 3),
        "gpus": 0,
        "outcome": "completed",
        "why": "executor",
    }
