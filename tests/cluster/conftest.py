"""A namespace, an S3 store, and Airflow on this machine that runs every stage as a pod there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from local import paths
from local.airflow_api import Airflow
from local.env import environment
from tasks.settings import environment as tasks_environment
from tests.e2e.conftest import _airloop, _free_ports, _keep_logs
from tests.e2e.loop import Loop

from . import online, s3, settings, table
from .kube import Cluster

SECRET = "airloop-store"
PATIENCE = 1800
"""Seconds for one DAG run: a node, an image, and pods that are lost."""


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
    try:
        made.create()
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
        where = _stores(url)
        cluster.secret(SECRET, keys)
        known = {name: keys[name] for name in ("AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION")}
        online.apply_base(cluster, told, tmp_path_factory.mktemp("overlay"), {**where, **known})
        way_in = stack.enter_context(online.way_in(cluster))
        # Airflow may what its account may, no more: what it does with the cluster in these tests, it does with those rights.
        account = cluster.kubeconfig_of("airloop-airflow", tmp_path_factory.mktemp("account") / "kubeconfig")
        for name, value in {**where, **_place(told, cluster, way_in), "KUBECONFIG": account}.items():
            patch.setenv(name, value)
        patch.setenv("AIRLOOP_HOME", str(home))
        for name, port in zip(("AIRFLOW", "MLFLOW", "ONLINE"), _free_ports(3), strict=True):
            patch.setenv(f"AIRLOOP_{name}_PORT", str(port))
        stack.callback(tasks_environment.environment.cache_clear)
        stack.callback(_airloop, "delete", "--yes")
        stack.callback(_keep_logs, home)
        _airloop("up")
        for name, value in environment().items():
            patch.setenv(name, value)
        tasks_environment.environment.cache_clear()
        airflow = Airflow()
        for dag in sorted(path.stem for path in (paths.ROOT / "dags").glob("*.py")):
            cluster.until(lambda dag=dag: airflow.knows(dag), f"Airflow to have read {dag}", 300)
        yield Loop(airflow, tasks_environment.store(), home, PATIENCE)


def _stores(url: str) -> dict[str, str]:
    return {
        "AIRLOOP_STORE": f"{url}/store",
        "AIRLOOP_LANDING": f"{url}/landing",
        "AIRLOOP_DVC_REMOTE": f"{url}/dvc",
    }


def _place(told: settings.Settings, cluster: Cluster, way_in: str) -> dict[str, str]:
    """What an installation on a cluster sets for Airflow: docs/kubernetes.md."""
    return {
        "AIRLOOP_PLACE": "cluster",
        "AIRLOOP_IMAGE": told.image("{role}"),
        "AIRLOOP_NAMESPACE": cluster.namespace,
        "AIRLOOP_POD_SECRET": SECRET,
        "AIRLOOP_SPOT_PRIORITY_CLASS": "airloop-training-spot",
        "AIRLOOP_ONLINE_URL": way_in,
        "AIRLOOP_ONLINE_DEPLOYMENT": f"{cluster.namespace}/{online.NAME}",
    }
