from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from airloop.places import ConfigError
from airloop.pod_spec import place_on_nodes
from airloop.stage import act, stage
from airloop.stage_spec import spec as stage_spec
from kubernetes.client import models as k8s

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
    monkeypatch.setattr(type(task), "_get_ti_pod_labels", lambda *_, **__: {"dag_id": "train"})
    return task.build_pod_request_obj(context, dry_run=True)


def test_the_pod_runs_the_stage_s_own_argv_for_the_month(context, monkeypatch) -> None:
    built = pod(stage("train"), context(params={"overrides": {"train.xgboost.eta": 0.2}}), monkeypatch)
    container = built.spec.containers[0]
    assert container.args == ["python", "tasks/train.py"]
    assert container.command == ["python", "-m", "tasks.common.pod"]  # prepares and commits around it
    env = {variable.name: variable.value for variable in container.env}
    assert env["AIRLOOP_STAGE"] == "train"
    assert env["AIRLOOP_POD"] is None  # its own name, which Kubernetes fills in
    assert env["AIRLOOP_MONTH"] == "2013-04"
    assert env["AIRLOOP_RUN"].startswith("train-2013-04-")
    assert env["AIRLOOP_STORE"] == "s3://airloop/store"
    assert env["AIRLOOP_OVERRIDES"] == '{"train.xgboost.eta": 0.2}'
    assert not [name for name in env if any(word in name for word in SECRET_LOOKING)]
    assert built.metadata.labels["airloop.io/month"] == "2013-04"
    assert built.metadata.namespace == "ml"


def test_stages_by_month_name_the_month(context, monkeypatch) -> None:
    built = pod(stage("manifest", "ingest"), context("ingest"), monkeypatch)
    env = {variable.name: variable.value for variable in built.spec.containers[0].env}
    assert env["AIRLOOP_STAGE"] == "ingest@2013-04"
    assert built.spec.containers[0].args == ["python", "tasks/ingest.py", "--month", "2013-04"]
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
    built = pod(stage("train"), context(), monkeypatch)
    resources = built.spec.containers[0].resources
    assert resources.requests == resources.limits == {"cpu": "8", "memory": "32Gi", "nvidia.com/gpu": "2"}
    assert built.spec.node_selector == {"airloop.io/capacity": "spot", "gpu": "h200"}
    assert (built.spec.runtime_class_name, built.spec.priority_class_name) == ("nvidia", "airloop-training-spot")
    assert {toleration.key for toleration in built.spec.tolerations} == {"airloop.io/capacity", "nvidia.com/gpu"}
    assert built.spec.active_deadline_seconds == 90 * 60


def test_a_stage_that_is_not_for_spot_stays_off_it(context, monkeypatch) -> None:
    built = pod(stage("gate"), context(), monkeypatch)
    assert not built.spec.node_selector and not built.spec.tolerations


def test_the_pod_may_do_no_more_than_it_must(context, monkeypatch) -> None:
    spec = pod(stage("train"), context(), monkeypatch).spec
    container = spec.containers[0].security_context
    assert spec.security_context["runAsNonRoot"] is True
    assert container["allowPrivilegeEscalation"] is False
    assert container["readOnlyRootFilesystem"] is True
    assert container["capabilities"] == {"drop": ["ALL"]}
    assert spec.automount_service_account_token is False
    assert spec.service_account_name == "airloop-stage"
    assert len(spec.containers) == 1  # no XCom sidecar


def test_what_happens_at_the_end_is_chosen() -> None:
    task = stage("train")
    assert (task.on_finish_action.value, task.on_kill_action.value, task.durable) == ("delete_pod", "delete_pod", True)
    assert task.do_xcom_push is True and task.deferrable is False


def test_deferrable_is_a_switch(monkeypatch) -> None:
    monkeypatch.setenv("AIRLOOP_DEFERRABLE", "true")
    assert stage("train").deferrable is True


def test_credentials_come_from_a_kubernetes_secret(context, monkeypatch) -> None:
    monkeypatch.setenv("AIRLOOP_POD_SECRET", "airloop-store")
    built = pod(stage("train"), context(), monkeypatch)
    assert built.spec.containers[0].env_from[0].secret_ref.name == "airloop-store"


def test_no_image_is_an_error_with_both_ways_out(monkeypatch) -> None:
    monkeypatch.delenv("AIRLOOP_IMAGE")
    with pytest.raises(
        ConfigError, match=r"AIRLOOP_IMAGE_GATE and AIRLOOP_IMAGE are not set.*AIRLOOP_PLACE_GATE=process"
    ):
        stage("gate")


def test_a_run_about_no_month_starts_no_pod(context) -> None:
    with pytest.raises(AirflowFailException, match="about no month"):
        stage("train").build_pod_request_obj(context(partition_key=None), dry_run=True)


def test_heavy_acts_run_in_pods_too(context, monkeypatch) -> None:
    scored = act("score", engine="spark", cpu=2, memory="4Gi", arguments=lambda _: ["--month", "2013-04"])
    built = pod(scored, context("score"), monkeypatch)
    container = built.spec.containers[0]
    assert container.image == "registry.example/airloop-spark:2"
    assert container.args == ["python", "tasks/score.py", "--month", "2013-04"]
    env = {variable.name: variable.value for variable in container.env}
    assert env["AIRLOOP_ACT"] == "score" and "AIRLOOP_STAGE" not in env
    assert (
        pod(act("monitor", memory="3Gi"), context("monitor"), monkeypatch)
        .spec.containers[0]
        .image.endswith("airloop-airflow:2")
    )


def test_light_acts_run_beside_airflow(monkeypatch) -> None:
    assert type(act("register")).__name__ == "WorkspaceOperator"


def test_labels_say_whose_it_is_and_what_it_costs_for(context, monkeypatch) -> None:
    monkeypatch.setenv("AIRLOOP_COST_OWNER", "pricing")
    labels = pod(stage("train"), context(), monkeypatch).metadata.labels
    assert labels["airloop.io/run"].startswith("train-2013-04-")
    assert (labels["airloop.io/stage"], labels["airloop.io/cost-owner"]) == ("train", "pricing")
    assert labels["airloop.io/model"] and labels["app.kubernetes.io/part-of"] == "airloop"


def test_a_badly_written_selector_is_an_error_with_the_way_out(context, monkeypatch) -> None:
    monkeypatch.setenv("AIRLOOP_GPU_NODE_SELECTOR", "h200")
    spec = dataclasses.replace(stage_spec("train"), gpus=1)
    with pytest.raises(ConfigError, match="AIRLOOP_GPU_NODE_SELECTOR='h200' is not written as label=value"):
        place_on_nodes(k8s.V1Pod(spec=k8s.V1PodSpec(containers=[])), spec, spot=False)
