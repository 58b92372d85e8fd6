"""One namespace of a real cluster, made for these tests and removed with all that is in it."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from local.paths import ROOT

NOT_FOUND = 404
SPOT = "airloop.io/capacity"
PRIORITIES = ROOT / "kubernetes/cluster"


class Cluster:
    """A namespace and what the tests do in it.

    Args:
        kubeconfig: file whose current context is used.
    """

    def __init__(self, kubeconfig: str) -> None:
        self.kubeconfig = os.path.abspath(kubeconfig)  # noqa: PTH100 - what KUBECONFIG holds
        self.namespace = f"airloop-test-{secrets.token_hex(4)}"
        self.core = client.CoreV1Api(config.new_client_from_config(self.kubeconfig))
        self._labelled = ""
        self._made_priorities = False

    @property
    def address(self) -> str:
        """URL of the API server."""
        return str(self.core.api_client.configuration.host)

    def create(self) -> None:
        """Make the namespace, with the restricted Pod Security Standard enforced."""
        labels = {"pod-security.kubernetes.io/enforce": "restricted", "app.kubernetes.io/part-of": "airloop"}
        metadata = client.V1ObjectMeta(name=self.namespace, labels=labels)
        self.core.create_namespace(client.V1Namespace(metadata=metadata))
        if not self.core.list_node(label_selector=f"{SPOT}=spot").items:
            # Training asks for a spot node first. Where there is none, one node plays it while the tests run.
            self._labelled = self.core.list_node().items[0].metadata.name
            self._label_node("spot")
        if "airloop-serving" not in self.kubectl("get", "priorityclasses", "--output", "name"):
            self._made_priorities = True
            self.kubectl("apply", "--kustomize", str(PRIORITIES))

    def remove(self) -> None:
        """Delete the namespace and wait until it has gone."""
        if self._labelled:
            self._label_node(None)
        if self._made_priorities:
            self.kubectl("delete", "--ignore-not-found", "--kustomize", str(PRIORITIES))
        if self._exists():
            self.core.delete_namespace(self.namespace)
        self.until(lambda: not self._exists(), f"the namespace {self.namespace} to go", 300)

    def secret(self, name: str, values: Mapping[str, str]) -> None:
        """Make a Secret of text values."""
        metadata = client.V1ObjectMeta(name=name)
        self.core.create_namespaced_secret(self.namespace, client.V1Secret(metadata=metadata, string_data=dict(values)))

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        """Run kubectl in the namespace; returns its output. AssertionError with its error when it fails."""
        done = subprocess.run(
            ["kubectl", "--kubeconfig", self.kubeconfig, "--namespace", self.namespace, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr.strip()}"
        return done.stdout

    def kubeconfig_of(self, account: str, path: Path) -> str:
        """Write a kubeconfig that knows the namespace's service account and nobody else; returns its path."""
        known = json.loads(self.kubectl("config", "view", "--minify", "--flatten", "--output", "json"))
        token = self.kubectl("create", "token", account, "--duration", "12h").strip()
        known["users"] = [{"name": account, "user": {"token": token}}]
        known["contexts"][0]["context"] |= {"user": account, "namespace": self.namespace}
        path.write_text(json.dumps(known))
        path.chmod(0o600)
        return str(path)

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """Apply objects, given as Kubernetes writes them in JSON."""
        listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("apply", "--filename", "-", stdin=json.dumps(listed))

    def pods(self, **labels: str) -> list[Any]:
        """Pods with these labels of ours: ``stage="train"`` is airloop.io/stage=train. All of ours when none is given."""
        selector = ",".join([f"airloop.io/{name}={value}" for name, value in labels.items()])
        return list(self.core.list_namespaced_pod(self.namespace, label_selector=selector).items)

    def at_work(self, seconds: float = 600, **labels: str) -> Any:
        """The pod with these labels, once its container runs."""
        return self.until(
            lambda: next((p for p in self.pods(**labels) if _runs(p)), None), f"a pod of {labels}", seconds
        )

    def delete(self, pod: Any) -> None:
        """What `kubectl delete pod` does."""
        self.core.delete_namespaced_pod(pod.metadata.name, self.namespace)

    def evict(self, pod: Any) -> None:
        """What `kubectl drain` does to it: the Eviction API, which asks disruption budgets."""
        metadata = client.V1ObjectMeta(name=pod.metadata.name, namespace=self.namespace)
        self.core.create_namespaced_pod_eviction(
            pod.metadata.name, self.namespace, client.V1Eviction(metadata=metadata)
        )

    def log(self, pod: str) -> str:
        """What a pod wrote."""
        # The client would make text of the bytes with str(): "b'...'".
        return self.core.read_namespaced_pod_log(pod, self.namespace, _preload_content=False).data.decode()

    def until(self, ask: Callable[[], Any], what: str, seconds: float) -> Any:
        """The first true answer of ``ask``; AssertionError with the pods' states when there is none in time."""
        deadline = time.monotonic() + seconds
        while not (answer := ask()):
            assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}; pods: {self._states()}"
            time.sleep(0.3)
        return answer

    def _states(self) -> str:
        return ", ".join(f"{p.metadata.name} {p.status.phase}" for p in self.pods()) or "none"

    def _exists(self) -> bool:
        try:
            self.core.read_namespace(self.namespace)
        except ApiException as error:
            if error.status == NOT_FOUND:
                return False
            raise
        return True

    def _label_node(self, value: str | None) -> None:
        self.core.patch_node(self._labelled, {"metadata": {"labels": {SPOT: value}}})


def _runs(pod: Any) -> bool:
    return pod.metadata.deletion_timestamp is None and any(
        status.state.running for status in pod.status.container_statuses or []
    )
