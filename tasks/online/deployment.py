"""The online service as a Deployment: its pods are for one model version each, and another version is a rollout.

A server-side apply writes the version into the pods' template, and nothing else: replicas stay the autoscaler's, the rest
whoever's it is. The ledger's sequence number is on the Deployment, not in the template: what only moves the ledger
starts no pod, and taking a version back returns to the ReplicaSet that still answers with the old one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException
from urllib3.exceptions import HTTPError

from tasks.core.errors import AirloopError, ConfigError
from tasks.online import AwayError, Check, waits
from tasks.online.rollout import Rollout, version_mark
from tasks.registry.ledger import Entry

SETTLE_SECONDS = 30
REQUEST_SECONDS = 15
T = TypeVar("T")


class Deployment:
    """A Deployment of the online service, of which the first container serves.

    Args:
        model: name of the model.
        namespace: of the Deployment.
        name: of the Deployment.
        url: of its Service, which may still reach a pod that leaves for ``SETTLE_SECONDS``.
    """

    patience = float(SETTLE_SECONDS)

    def __init__(self, model: str, namespace: str, name: str, url: str) -> None:
        self.urls = [url]
        self._model, self._namespace, self._name = model, namespace, name
        configuration = client.Configuration()
        try:
            if "KUBERNETES_SERVICE_HOST" in os.environ and not os.environ.get("KUBECONFIG"):
                config.load_incluster_config(client_configuration=configuration)
            else:
                config.load_kube_config(os.environ.get("KUBECONFIG") or None, client_configuration=configuration)
        except ConfigException as error:
            raise ConfigError(
                f"AIRLOOP_ONLINE_DEPLOYMENT={namespace}/{name} is set, and there is no way to its cluster ({error}): run this in "
                "a pod with a service account, or set KUBECONFIG."
            ) from None
        api = client.ApiClient(configuration)
        self._apps, self._core = client.AppsV1Api(api), client.CoreV1Api(api)

    def put_live(self, entry: Entry, check: Check) -> list[str]:
        """Apply the entry's version, or that there is none, and wait for the rollout of one."""
        found, applied = self._apply(entry, check)
        if entry.to_version is None:
            return []
        if applied.spec.paused:
            raise AirloopError(
                f"{self._namespace}/{self._name} is paused, so v{entry.to_version} is not rolled out: `kubectl rollout resume "
                f"deployment/{self._name} -n {self._namespace}` and clear this task."
            )
        read, pods = partial(self._read, check), partial(self._pods, check)
        replicas = Rollout(self._model, entry.to_version, applied.metadata.generation, read, pods).wait(check)
        if applied.metadata.generation == found.metadata.generation:
            return []
        return [f"v{entry.to_version} is rolled out to {replicas} replicas of {self._namespace}/{self._name}"]

    def _apply(self, entry: Entry, check: Check) -> tuple[Any, Any]:
        """The Deployment before and after the entry was applied to it.

        The entry is the ledger's newest after the Deployment was read, and the API takes the change of nothing else than was read. So
        whoever writes a later entry applies that after this, and a job that was held up in between cannot bring back an older version.
        """

        def once() -> tuple[Any, Any]:
            found = self._read(check)
            check()
            return found, self._ask(
                check,
                self._apps.patch_namespaced_deployment,
                self._name,
                self._namespace,
                desired(found, self._model, entry),
                field_manager=manager(self._model),
                force=True,  # the ledger alone decides what is live
                _content_type="application/apply-patch+yaml",
            )

        return waits.outlast(lambda error: isinstance(error, ConflictError), waits.AWAY_SECONDS, check, once)

    def _read(self, check: Check) -> Any:
        return self._ask(check, self._apps.read_namespaced_deployment, self._name, self._namespace)

    def _pods(self, check: Check, deployment: Any) -> list[Any]:
        labels = deployment.spec.selector.match_labels or {}
        selector = ",".join(f"{name}={value}" for name, value in labels.items())
        return list(self._ask(check, self._core.list_namespaced_pod, self._namespace, label_selector=selector).items)

    def _ask(self, check: Check, call: Callable[..., T], *arguments: Any, **more: Any) -> T:
        """``call``, repeated while the API is away: reading and applying may be done twice."""
        once = partial(call, *arguments, _request_timeout=REQUEST_SECONDS, **more)
        try:
            return waits.outlast(_passes, waits.AWAY_SECONDS, check, once)
        except (HTTPError, ApiException) as error:
            said = f"{self._namespace}/{self._name}: {_hint(error)}"
            if isinstance(error, ApiException) and error.status == 409:
                raise ConflictError(said) from None
            raise (AwayError if _passes(error) else AirloopError)(said) from None


class ConflictError(AwayError):
    """Somebody changed the Deployment between the look at it and the change."""


def manager(model: str) -> str:
    """Field manager of the job deploy: one for each model, so that a Deployment can serve several."""
    return f"airloop-deploy-{model}"


def desired(found: Any, model: str, entry: Entry) -> dict[str, Any]:
    """What the job deploy of ``model`` owns of the Deployment, for ``entry``; what it leaves out, it gives up."""
    container: dict[str, Any] = {"name": found.spec.template.spec.containers[0].name}
    template: dict[str, Any] = {"spec": {"containers": [container]}}
    if entry.evidence is not None:
        version = str(entry.to_version)
        container["env"] = [{"name": f"AIRLOOP_ONLINE_VERSION__{model.upper()}", "value": version}]
        marks = {version_mark(model): version, f"airloop.io/digest-of-{model}": entry.evidence.model}
        template["metadata"] = {"annotations": marks}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": found.metadata.name,
            "resourceVersion": found.metadata.resource_version,
            "annotations": {f"airloop.io/ledger-entry-of-{model}": str(entry.seq)},
        },
        "spec": {"template": template},
    }


def _passes(error: BaseException) -> bool:
    """Whether waiting may help: the API is away, or busy."""
    if isinstance(error, ApiException):
        return error.status in (0, 408, 429) or error.status >= 500
    return isinstance(error, HTTPError)


def _hint(error: Exception) -> str:
    if not isinstance(error, ApiException):
        return f"the cluster's API does not answer ({error}). The ledger is written: clear this task when it does."
    if error.status == 404:
        return "there is no such Deployment; apply kubernetes/, or correct AIRLOOP_ONLINE_DEPLOYMENT."
    if error.status == 403:
        return f"this account may not do that ({error.reason}): it needs the Role airloop-deployer of kubernetes/base/roles.yaml."
    return f"the cluster's API answers {error.status} {error.reason}: {str(error.body)[:300]}"
