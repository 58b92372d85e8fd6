"""A namespace, an S3 store, and Airflow on this machine that runs every stage as a pod there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from local.airflow_api import Airflow
from local.env import environment
from tasks.common import environment as tasks_environment
from tasks.common.artefacts import Store
from tests.e2e.conftest import _free_ports, _keep_logs, _local
from tests.e2e.loop import Loop

from . import s3, settings, table
from .kube import Cluster

SECRET = "airloop-pods"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if table.ROWS:
        terminalreporter.section("faults on the cluster")
        terminalreporter.write_line(table.text())


@pytest.fixture(scope="session")
def told() -> settings.Settings:
    return settings.read()


@pytest.fixture(scope="session")
def cluster(told: settings.Settings) -> Iterator[Cluster]:
    """A namespace of its own, gone at the end."""
    made = Cluster(told.kubeconfig)
    made.create()
    try:
        yield made
    finally:
        if told.keep:
            print(f"kept: namespace {made.namespace}")
        else:
            made.remove()


@pytest.fixture(scope="session")
def loop(told: settings.Settings, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    """Airflow, MLflow and nothing landed; the store is on S3, and stages are pods."""
    home = tmp_path_factory.mktemp("cluster") / "home"
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name in [name for name in os.environ if name.startswith(("AIRLOOP_", "AIRFLOW"))]:
            patch.delenv(name)
        keys = stack.enter_context(s3.running(told, tmp_path_factory.mktemp("s3") / "data"))
        for name, value in keys.items():
            patch.setenv(name, value)
        url = stack.enter_context(s3.folder_in_bucket(cluster.namespace))
        cluster.secret(SECRET, keys)
        cluster.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "airloop-stage"}})
        for name, value in _place(told, cluster, url).items():
            patch.setenv(name, value)
        patch.setenv("AIRLOOP_HOME", str(home))
        for name, port in zip(("AIRFLOW", "MLFLOW", "ONLINE"), _free_ports(3), strict=True):
            patch.setenv(f"AIRLOOP_{name}_PORT", str(port))
        stack.callback(tasks_environment.environment.cache_clear)
        stack.callback(_local, "down")
        stack.callback(_keep_logs, home)
        _local("up")
        for name, value in environment().items():
            patch.setenv(name, value)
        tasks_environment.environment.cache_clear()
        yield Loop(Airflow(), Store(tasks_environment.environment().store_url), home)


def _place(told: settings.Settings, cluster: Cluster, url: str) -> dict[str, str]:
    """What an installation on a cluster sets: docs/kubernetes.md."""
    return {
        "AIRLOOP_PLACE": "cluster",
        "AIRLOOP_STORE": f"{url}/store",
        "AIRLOOP_LANDING": f"{url}/landing",
        "AIRLOOP_DVC_REMOTE": f"{url}/dvc",
        "AIRLOOP_IMAGE": told.image("{role}"),
        "AIRLOOP_NAMESPACE": cluster.namespace,
        "AIRLOOP_POD_SECRET": SECRET,
        "KUBECONFIG": cluster.kubeconfig,
    }
