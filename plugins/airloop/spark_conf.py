"""Options of spark-submit where executors are on other machines than the driver: Kubernetes, or Spark's own cluster."""

from __future__ import annotations

import socket
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from airloop.settings import MachineSettings, PodSettings, load
from tasks.core.errors import ConfigError

TEMPLATE = "kubernetes/spark-executor.yaml"
PYTHON_IN_IMAGE = "/opt/venv/bin/python"
DYNAMIC = {
    # Executors come and go with the work. Shuffle files stay on an executor, which therefore waits until nobody needs them.
    "spark.dynamicAllocation.enabled": "true",
    "spark.dynamicAllocation.shuffleTracking.enabled": "true",
    "spark.dynamicAllocation.minExecutors": "0",
    "spark.dynamicAllocation.initialExecutors": "1",
    "spark.dynamicAllocation.maxExecutors": "4",
}


@dataclass(frozen=True)
class Job:
    """One script to submit."""

    name: str
    """Of the stage or job."""
    image: str
    """Of its executors, on Kubernetes."""
    cores: int
    memory: str
    """Of one executor, as Spark writes it: 4g."""
    labels: Mapping[str, str]
    """Of its executors' pods."""


def conf(master: str, extra: Mapping[str, Any], job: Job, code: Path) -> dict[str, str]:
    """Settings for ``master``, whose connection has ``extra``; none where driver and executors are one process (``local[*]``).

    ConfigError when there is no way to the master, or its settings do not say where executors are to run.
    """
    if not is_remote(master):
        return {}
    ours = address_towards(master)
    settings = {
        **DYNAMIC,
        "spark.driver.host": ours,  # where executors find the driver: a worker's host name is known to nobody
        "spark.driver.bindAddress": "127.0.0.1" if ours == "127.0.0.1" else "0.0.0.0",  # noqa: S104 - a pod's own address
        "spark.executor.cores": str(job.cores),
        "spark.executor.memory": job.memory,
    }
    return {**settings, **(_kubernetes(namespace_of(extra), job, code) if on_kubernetes(master) else {})}


def is_remote(master: str) -> bool:
    """Whether executors run elsewhere than the driver."""
    return not master.startswith("local")


def on_kubernetes(master: str) -> bool:
    """Whether executors are pods."""
    return master.startswith("k8s://")


def namespace_of(extra: Mapping[str, Any]) -> str:
    """Where executors run on Kubernetes, by the connection's extra or AIRLOOP_NAMESPACE; ConfigError when neither says."""
    namespace = extra.get("namespace") or load(PodSettings).namespace
    if not namespace:
        raise ConfigError(
            "Spark's executors have no namespace: set AIRLOOP_NAMESPACE, or `namespace` in the extra of spark_default."
        )
    return str(namespace)


def _kubernetes(namespace: str, job: Job, code: Path) -> dict[str, str]:
    machine, cluster = load(MachineSettings), load(PodSettings)
    driver = machine.host if machine.kubernetes else None
    return {
        "spark.kubernetes.namespace": namespace,
        "spark.kubernetes.container.image": job.image,
        "spark.kubernetes.executor.podTemplateFile": str(code / TEMPLATE),
        "spark.kubernetes.executor.podTemplateContainerName": "executor",
        "spark.kubernetes.authenticate.executor.serviceAccountName": cluster.service_account,
        **{f"spark.kubernetes.executor.label.{name}": value for name, value in job.labels.items()},
        "spark.kubernetes.executor.limit.cores": str(
            job.cores
        ),  # else a namespace's default limit, below what is requested
        "spark.kubernetes.executor.deleteOnTermination": "false",  # spark_pods.py does, when it has read what they used
        # Executors belong to the driver's pod, so that they go with it however it ends.
        **({"spark.kubernetes.driver.pod.name": driver} if driver else {}),
        "spark.pyspark.driver.python": sys.executable,
        "spark.pyspark.python": PYTHON_IN_IMAGE,
        # Spark would tidy up volumes and Services that it never made, which its account may not even list.
        "spark.kubernetes.driver.ownPersistentVolumeClaim": "false",
        "spark.kubernetes.driver.reusePersistentVolumeClaim": "false",
        "spark.kubernetes.driver.service.deleteOnTermination": "false",
    }


def address_towards(master: str) -> str:
    """This machine's address as ``master`` (spark://host:port, k8s://https://host:port) sees it; ConfigError without a way."""
    first = master.removeprefix("k8s://").split(",")[0]
    where = urlsplit(first if "://" in first else f"https://{first}")
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((where.hostname or "", where.port or 443))  # UDP: nothing is sent
            return str(probe.getsockname()[0])
    except OSError as error:
        raise ConfigError(
            f"spark_default: there is no way to {master} ({error}); correct the connection's host."
        ) from None


def pack_code(workspace: Path, archive: Path) -> str:
    """Make an archive of the run's own tasks/ and models/, which executors import whatever their image has; returns its path."""
    with zipfile.ZipFile(archive, "w") as packed:
        for path in sorted(path for name in ("models", "tasks") for path in (workspace / name).rglob("*.py")):
            packed.write(path, path.relative_to(workspace))
    return str(archive)
