from __future__ import annotations

import json
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from airflow.sdk.exceptions import AirflowFailException
from airloop import spark_conf
from airloop.spark import SparkOperator
from airloop.spark_pods import Executors
from airloop.stage import stage
from kubernetes import client, config

from tasks.core.errors import ConfigError
from tests.kube.cluster import Cluster
from tests.kubernetes import restricted
from tests.plugins.conftest import FLIGHTS

ROOT = Path(__file__).parents[2]
K8S = "k8s://https://127.0.0.1:6443"
OWN = {"airloop.io/run": "ingest-2013-04-1a2b3c4d", "airloop.io/stage": "features"}
JOB = spark_conf.Job("features", "airloop-spark:1", 2, "4g", OWN)


def conf(master: str = K8S, **extra: str) -> dict[str, str]:
    return spark_conf.conf(master, extra, JOB, ROOT)


def test_one_process_is_told_nothing() -> None:
    assert conf("local[*]") == {}


def test_executors_elsewhere_find_the_driver_and_come_and_go() -> None:
    told = conf("spark://127.0.0.1:7077")
    assert told["spark.driver.host"] == told["spark.driver.bindAddress"] == "127.0.0.1"
    assert told["spark.dynamicAllocation.enabled"] == told["spark.dynamicAllocation.shuffleTracking.enabled"] == "true"
    assert (told["spark.executor.cores"], told["spark.executor.memory"]) == ("2", "4g")
    assert not [name for name in told if "kubernetes" in name]


def test_a_driver_that_others_reach_listens_where_they_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spark_conf, "address_towards", lambda _: "10.1.2.3")
    told = conf("spark://master:7077")
    assert (told["spark.driver.host"], told["spark.driver.bindAddress"]) == ("10.1.2.3", "0.0.0.0")


def test_pods_are_labelled_and_belong_to_the_driver_s_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOSTNAME", "features-x1")
    told = conf(namespace="ml")
    assert told["spark.kubernetes.namespace"] == "ml"
    assert told["spark.kubernetes.container.image"] == "airloop-spark:1"
    assert told["spark.kubernetes.executor.limit.cores"] == told["spark.executor.cores"] == "2"
    assert {f"spark.kubernetes.executor.label.{name}": value for name, value in OWN.items()}.items() <= told.items()
    assert told["spark.kubernetes.authenticate.executor.serviceAccountName"] == "airloop-stage"
    assert told["spark.pyspark.driver.python"] == sys.executable
    assert "spark.kubernetes.driver.pod.name" not in told, "this machine is no pod"
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    assert conf(namespace="ml")["spark.kubernetes.driver.pod.name"] == "features-x1"


def test_a_namespace_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRLOOP_NAMESPACE", raising=False)
    with pytest.raises(ConfigError, match="set AIRLOOP_NAMESPACE, or `namespace` in the extra of spark_default"):
        conf()
    monkeypatch.setenv("AIRLOOP_NAMESPACE", "airloop-dev")
    assert conf()["spark.kubernetes.namespace"] == "airloop-dev"


def test_a_master_without_a_way_to_it_is_named() -> None:
    with pytest.raises(ConfigError, match=r"no way to spark://nowhere\.invalid:7077"):
        conf("spark://nowhere.invalid:7077")


def test_the_template_passes_the_restricted_standard() -> None:
    pod = yaml.safe_load((ROOT / spark_conf.TEMPLATE).read_text())
    assert restricted.problems(pod["spec"]) == []


def test_the_archive_has_the_run_s_own_code(tmp_path: Path) -> None:
    (tmp_path / "tasks/engines").mkdir(parents=True)
    (tmp_path / "tasks/features.py").write_text("A = 1\n")
    (tmp_path / "tasks/engines/spark.py").touch()
    (tmp_path / "tasks/features.pyc").touch()
    (tmp_path / "models/flights").mkdir(parents=True)
    (tmp_path / "models/flights/model.py").touch()
    with zipfile.ZipFile(spark_conf.pack_code(tmp_path, tmp_path / "tasks.zip")) as packed:
        assert packed.namelist() == ["models/flights/model.py", "tasks/engines/spark.py", "tasks/features.py"]


def operator(monkeypatch: pytest.MonkeyPatch, **extra: object) -> SparkOperator:
    connection = {"conn_type": "spark", "host": K8S, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_SPARK_DEFAULT", json.dumps(connection))
    monkeypatch.setenv("AIRLOOP_IMAGE", "registry.example/airloop-{role}:1")
    monkeypatch.setenv("AIRLOOP_CODE", str(ROOT))
    made = stage(FLIGHTS, "features")
    assert isinstance(made, SparkOperator)
    return made


def test_a_driver_in_a_pod_of_its_own_would_lack_the_workspace(
    context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = operator(monkeypatch, **{"deploy-mode": "cluster", "namespace": "ml"})
    with pytest.raises(AirflowFailException, match='Write "deploy-mode": "client" into its extra'):
        task._place(tmp_path, tmp_path, context("flights.ingest"))


def test_the_connection_has_the_last_word(context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = {"spark.dynamicAllocation.maxExecutors": "32"}
    task = operator(monkeypatch, namespace="ml", conf=limit)
    task._place(tmp_path, tmp_path, context("flights.ingest"))
    assert task.conf is not None and task.conf["spark.dynamicAllocation.maxExecutors"] == "32"
    assert task.conf["spark.kubernetes.container.image"] == "registry.example/airloop-spark:1"
    assert task.conf["spark.kubernetes.executor.label.airloop.io/model"] == "flights"
    assert task.conf["spark.executor.memory"] == "4g"
    assert task.py_files == str(tmp_path / "tasks.zip")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path / "cluster").running() as running:
        yield running


def executor(api: client.CoreV1Api, name: str, **labels: str) -> None:
    requests = {"cpu": "500m", "memory": "1536Mi"}
    container = {"name": "executor", "image": "x", "command": ["sleep", "60"], "resources": {"requests": requests}}
    metadata = {"name": name, "labels": {**OWN, "spark-role": "executor", **labels}}
    api.create_namespaced_pod("ml", {"metadata": metadata, "spec": {"containers": [container]}})


def test_what_executors_used_is_told_and_none_is_left(cluster: Cluster) -> None:
    api = client.CoreV1Api(config.new_client_from_config(str(cluster.kubeconfig)))
    executor(api, "one")
    executor(api, "driver", **{"spark-role": "driver"})
    executor(api, "another-run", **{"airloop.io/run": "ingest-2013-05-1a2b3c4d"})
    cluster.wait_for("features")
    (used,) = Executors(api, "ml", OWN, log=None).remove()
    assert used.pop("seconds") < 60
    assert used == {
        "pod": "one", "stage": "features", "spot": False, "cpu": 0.5, "memory_gib": 1.5, "gpus": 0, "outcome": "completed",
        "why": "executor",
    }  # fmt: skip
    deadline = time.monotonic() + 10
    while "one" in cluster.pods and time.monotonic() < deadline:
        time.sleep(0.05)
    assert set(cluster.pods) == {"driver", "another-run"}


def test_an_api_server_that_is_away_costs_no_result(cluster: Cluster) -> None:
    settings = client.Configuration()
    config.load_kube_config(str(cluster.kubeconfig), client_configuration=settings)
    settings.retries = False
    said: list[str] = []
    log = SimpleNamespace(warning=lambda text, *words: said.append(text % words))
    cluster.away(60)
    assert Executors(client.CoreV1Api(client.ApiClient(settings)), "ml", OWN, log).remove() == []
    assert "may be left" in said[0]
