"""The online service of kubernetes/base in the tests' namespace, a way to it from this machine, and load on it."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from local.paths import ROOT

from .kube import Cluster
from .settings import Settings

NAME = "airloop-online"
LOAD = Path(__file__).with_name("load.py")


def apply_base(cluster: Cluster, told: Settings, folder: Path, where: dict[str, str]) -> None:
    """Apply kubernetes/base, as an overlay would, in the tests' namespace and with their store."""
    cluster.secret("airloop-online", {"admin-token": secrets.token_urlsafe(16)})
    image, _, tag = told.image("serve").rpartition(":")
    overlay = {
        "namespace": cluster.namespace,
        "resources": [os.path.relpath(ROOT / "kubernetes/base", folder), "store.yaml"],
        "images": [{"name": "airloop-serve", "newName": image, "newTag": tag}],
        "patches": [
            _patch("ConfigMap", "airloop-settings", {f"/data/{name}": value for name, value in where.items()}),
            _patch("Deployment", NAME, {"/spec/progressDeadlineSeconds": 120}),
        ],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    (folder / "store.yaml").write_text(yaml.safe_dump(_way_to_the_store(where["AWS_ENDPOINT_URL"])))
    cluster.kubectl("apply", "--server-side", "--kustomize", str(folder))


@contextmanager
def way_in(cluster: Cluster) -> Iterator[str]:
    """URL of the service on this machine, through the API server: it needs a kubeconfig and nothing else."""
    command = ["kubectl", "--kubeconfig", cluster.kubeconfig, "proxy", "--port=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as proxy:
        try:
            assert proxy.stdout is not None
            address = proxy.stdout.readline().split()[-1]  # Starting to serve on 127.0.0.1:45678
            yield f"http://{address}/api/v1/namespaces/{cluster.namespace}/services/{NAME}:http/proxy"
        finally:
            proxy.terminate()


class Load:
    """A pod that asks the service through its Service, on new connections, until it is told to end."""

    def __init__(self, cluster: Cluster, told: Settings) -> None:
        self._cluster = cluster
        self._name = f"load-{secrets.token_hex(3)}"
        cluster.apply(_load_pod(self._name, told.image("serve")))
        cluster.until(lambda: "asking" in self._said(), "the load to begin", 120)

    def end(self) -> dict[str, int]:
        """Stop asking; how often each status or error was seen."""
        self._cluster.kubectl(
            "exec", self._name, "--", "python", "-c", "import tempfile; open(tempfile.gettempdir() + '/end', 'w')"
        )
        answers = self._cluster.until(lambda: self._said().partition("answers ")[2], "the load's answers", 60)
        return dict(json.loads(answers))

    def remove(self) -> None:
        """Delete the pod, whatever it does."""
        self._cluster.kubectl("delete", "pod", self._name, "--now")

    def _said(self) -> str:
        started = self._cluster.kubectl("get", "pod", self._name, "--output", "jsonpath={.status.phase}")
        return "" if started == "Pending" else self._cluster.log(self._name)


def _load_pod(name: str, image: str) -> dict[str, Any]:
    none = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    amounts = {"cpu": "200m", "memory": "128Mi"}
    container = {
        "name": "load",
        "image": image,
        "command": ["python", "-c", LOAD.read_text(), f"http://{NAME}:8000/models/flights/predict"],
        "securityContext": none,
        "resources": {"requests": amounts, "limits": amounts},
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }
    labels = {"airloop.io/online-client": "true"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}


def _way_to_the_store(endpoint: str) -> dict[str, Any]:
    """What the base's policies leave out on purpose: a store without TLS, and a client in the same namespace."""
    where = urlsplit(endpoint)
    store = {"cidr": f"{socket.gethostbyname(where.hostname or '')}/32"}
    online = {"podSelector": {"matchLabels": {"app.kubernetes.io/name": NAME}}}
    egress = [
        {"to": [{"ipBlock": store}], "ports": [{"protocol": "TCP", "port": where.port or 443}]},
        {"to": [online], "ports": [{"protocol": "TCP", "port": 8000}]},
    ]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "airloop-test"},
        "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": egress},
    }


def _patch(kind: str, name: str, values: dict[str, Any]) -> dict[str, Any]:
    changes = [{"op": "add", "path": path, "value": value} for path, value in values.items()]
    return {"target": {"kind": kind, "name": name}, "patch": yaml.safe_dump(changes)}
