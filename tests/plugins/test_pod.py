from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from airloop.pod_spec import place_on_nodes
from airloop.running import running_argv
from airloop.setting_types import DNS_NAME, LABEL
from airloop.settings import code
from airloop.stage import job, stage
from kubernetes.client import models as k8s

from tasks.core.errors import ConfigError
from tasks.running.catalogue import Catalogue
from tests.plugins.conftest import FLIGHTS

ROOT = Path(__file__).parents[2]
SECRET_LOOKING = ("PASSWORD", "SECRET", "TOKEN", "KEY")


@pytest.fixture(autouse=True)
def _cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRLOOP_PLACE", "cluster")
    monkeypatch.setenv("AIRLOOP_IMAGE_TRAIN", "registry.example/airloop-train:1")
    monkeypatch.setenv("AIRLOOP_IMAGE", "registry.example/airloop-{role}:2")
    monkeypatch.setenv("AIRLOOP_NAMESPACE", "ml")
    monkeypatch.setenv("AIRLOOP_STORE", "s3://airloop/store")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not for pods")


def pod(task: Any, context: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    # The labels that identify a task's pod come from its task instance, which is Airflow's part.
    monkeypatch.setattr(type(task), "_get_ti_pod_labels", lambda *_, **__: {"dag_id": "flights.train"})
    return task.build_pod_request_obj(context, dry_run=True)


def test_the_pod_runs_the_command_that_a_process_runs(context, monkeypatch) -> None:
    given = context(params={"overrides": {"train.xgboost.eta": 0.2}})
    built = pod(stage(FLIGHTS, "train"), given, monkeypatch)
    container = built.spec.containers[0]
    assert [*container.command, *container.args] == [
        "python",
        *running_argv("stage", ["train"], given, model="flights"),
    ]
    assert container.args[:3] == ["tasks.running", "stage", "train"]
    assert container.args[-2:] == ["--set", "train.xgboost.eta=0.2"]
    env = {variable.name: variable.value for variable in container.env}
    assert env["AIRLOOP_POD"] is None  # its own name, which Kubernetes fills in
    assert env["AIRLOOP_RUN"].startswith("flights-train-2013-04-")
    assert env["AIRLOOP_STORE"] == "s3://airloop/store"
    assert not [name for name in env if any(word in name for word in SECRET_LOOKING)]
    assert built.metadata.labels["airloop.io/interval"] == "2013-04"
    assert built.metadata.namespace == "ml"


def test_a_cluster_s_own_registry_certificates_and_proxy_reach_the_pod(context, monkeypatch) -> None:
    monkeypatch.setenv("AIRLOOP_IMAGE_PULL_SECRETS", "registry,mirror")
    monkeypatch.setenv("AIRLOOP_CA_CONFIG_MAP", "company-ca")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    built = pod(stage(FLIGHTS, "train"), context(), monkeypatch)
    assert [each.name for each in built.spec.image_pull_secrets] == ["registry", "mirror"]
    env = {variable.name: variable.value for variable in built.spec.containers[0].env}
    mounted = {mount.name: mount.mount_path for mount in built.spec.containers[0].volume_mounts}
    sources = {volume.name: volume.config_map for volume in built.spec.volumes}
    assert env["AWS_CA_BUNDLE"] == env["SSL_CERT_FILE"] == f"{mounted['certificates']}/ca.crt"
    assert sources["certificates"].name == "company-ca"
    assert env["HTTPS_PROXY"] == "http://proxy.example:3128"
    assert env["AWS_REQUEST_CHECKSUM_CALCULATION"] == "when_required"


def test_stages_by_interval_name_the_interval(context, monkeypatch) -> None:
    built = pod(stage(FLIGHTS, "manifest", "ingest"), context("flights.ingest"), monkeypatch)
    args = built.spec.containers[0].args
    assert args[:3] == ["tasks.running", "stage", "ingest"], "the light stage before it runs on the worker"
    assert args[args.index("--first") :] == ["--first", "2013-04", "--last", "2013-04"]
    assert built.spec.containers[0].image == "registry.example/airloop-train:2"


def test_resources_are_reserved_as_dvc_yaml_says(context, monkeypatch, tmp_path) -> None:
    (tmp_path / "dvc.yaml").write_text(
        "stages: {train: {cmd: python tasks/train.py, meta: {engine: python, cpu: 8, memory: 32Gi, gpus: 2, spot: true,"
        " timeout_minutes: 90}}}"
    )
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.setenv("AIRLOOP_CODE", str(tmp_path))
    monkeypatch.setenv("AIRLOOP_GPU_RUNTIME_CLASS", "nvidia")
    monkeypatch.setenv("AIRLOOP_GPU_NODE_SELECTOR", "gpu=h200")
    monkeypatch.setenv("AIRLOOP_SPOT_PRIORITY_CLASS", "airloop-training-spot")
    built = pod(stage(FLIGHTS, "train"), context(), monkeypatch)
    resources = built.spec.containers[0].resources
    assert resources.requests == resources.limits == {"cpu": "8", "memory": "32Gi", "nvidia.com/gpu": "2"}
    assert built.spec.node_selector == {"airloop.io/capacity": "spot", "gpu": "h200"}
    assert (built.spec.runtime_class_name, built.spec.priority_class_name) == ("nvidia", "airloop-training-spot")
    assert {toleration.key for toleration in built.spec.tolerations} == {"airloop.io/capacity", "nvidia.com/gpu"}
    assert built.spec.active_deadline_seconds == 90 * 60


def test_a_stage_that_is_not_for_spot_stays_off_it(context, monkeypatch) -> None:
    built = pod(stage(FLIGHTS, "gate"), context(), monkeypatch)
    assert not built.spec.node_selector and not built.spec.tolerations


def test_the_pod_may_do_no_more_than_it_must(context, monkeypatch) -> None:
    spec = pod(stage(FLIGHTS, "train"), context(), monkeypatch).spec
    container = spec.containers[0].security_context
    assert spec.security_context["runAsNonRoot"] is True
    assert container["allowPrivilegeEscalation"] is False
    assert container["readOnlyRootFilesystem"] is True
    assert container["capabilities"] == {"drop": ["ALL"]}
    assert spec.automount_service_account_token is False
    assert spec.service_account_name == "airloop-stage"
    assert len(spec.containers) == 1  # no XCom sidecar


def test_what_happens_at_the_end_is_chosen() -> None:
    task = stage(FLIGHTS, "train")
    assert (task.on_finish_action.value, task.on_kill_action.value, task.durable) == ("delete_pod", "delete_pod", True)
    assert task.do_xcom_push is True and task.deferrable is False


def test_deferrable_is_a_switch(monkeypatch) -> None:
    monkeypatch.setenv("AIRLOOP_DEFERRABLE", "true")
    assert stage(FLIGHTS, "train").deferrable is True


def test_credentials_come_from_a_kubernetes_secret(context, monkeypatch) -> None:
    monkeypatch.setenv("AIRLOOP_POD_SECRET", "airloop-store")
    built = pod(stage(FLIGHTS, "train"), context(), monkeypatch)
    assert built.spec.containers[0].env_from[0].secret_ref.name == "airloop-store"


def test_no_image_is_an_error_with_both_ways_out(monkeypatch) -> None:
    monkeypatch.delenv("AIRLOOP_IMAGE")
    with pytest.raises(
        ConfigError, match=r"AIRLOOP_IMAGE_GATE and AIRLOOP_IMAGE are not set.*AIRLOOP_PLACE_GATE=process"
    ):
        stage(FLIGHTS, "gate")


def test_a_run_about_no_interval_starts_no_pod(context) -> None:
    with pytest.raises(AirflowFailException, match="about no interval"):
        stage(FLIGHTS, "train").build_pod_request_obj(context(partition_key=None), dry_run=True)


def test_heavy_jobs_run_in_pods_too(context, monkeypatch) -> None:
    scored = job(FLIGHTS, "score", arguments=lambda _: ["--dry-run"])
    container = pod(scored, context("flights.score"), monkeypatch).spec.containers[0]
    assert container.image == "registry.example/airloop-spark:2"
    assert container.args[:3] == ["tasks.running", "job", "score"]
    assert container.args[-2:] == ["--rest", "--dry-run"]
    watched = pod(job(FLIGHTS, "monitor"), context("flights.monitor"), monkeypatch)
    assert watched.spec.containers[0].image == "registry.example/airloop-airflow:2"
    assert watched.spec.containers[0].resources.limits["memory"] == Catalogue(code()).job("monitor").memory


def test_a_pod_begins_the_run_only_when_nothing_before_it_did(context, monkeypatch) -> None:
    task = stage(FLIGHTS, "golden")
    assert "--begins" not in pod(task, context(), monkeypatch).spec.containers[0].args
    task._begins = True
    assert "--begins" in pod(task, context(), monkeypatch).spec.containers[0].args


def test_labels_say_whose_it_is_and_what_it_costs_for(context, monkeypatch) -> None:
    monkeypatch.setenv("AIRLOOP_COST_OWNER", "pricing")
    labels = pod(stage(FLIGHTS, "train"), context(), monkeypatch).metadata.labels
    assert labels["airloop.io/run"].startswith("flights-train-2013-04-")
    assert (labels["airloop.io/stage"], labels["airloop.io/cost-owner"]) == ("train", "pricing")
    assert (labels["airloop.io/model"], labels["app.kubernetes.io/part-of"]) == ("flights", "airloop")


@pytest.mark.parametrize("name", ["second", f"a{'_b' * 15}"])
def test_a_pod_and_its_labels_are_named_by_the_task_s_model(context, monkeypatch, name: str) -> None:
    """The longest name leaves room for the rank of a pod in a group: <pod>-<rank> is a host's name."""
    built = pod(stage(dataclasses.replace(FLIGHTS, name=name), "evaluate"), context(f"{name}.train"), monkeypatch)
    assert built.metadata.name.startswith(f"airloop-{name.replace('_', '-')}-evaluate-")
    assert len(built.metadata.name) + len("-99") <= 63 and DNS_NAME.fullmatch(built.metadata.name)
    assert built.metadata.labels["airloop.io/model"] == name
    assert all(LABEL.fullmatch(built.metadata.labels[f"airloop.io/{label}"]) for label in ("model", "run"))


def test_a_badly_written_selector_is_an_error_with_the_way_out(context, monkeypatch) -> None:
    monkeypatch.setenv("AIRLOOP_GPU_NODE_SELECTOR", "h200")
    spec = dataclasses.replace(Catalogue(code()).stage("train"), gpus=1)
    with pytest.raises(ConfigError, match="AIRLOOP_GPU_NODE_SELECTOR='h200' is not written as label=value"):
        place_on_nodes(k8s.V1Pod(spec=k8s.V1PodSpec(containers=[])), spec, spot=False)
