from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from airloop.places import ConfigError
from airloop.stage import act, spark_memory, stage
from airloop.stage_spec import spec
from airloop.workspace import WorkspaceOperator


def write_stages(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "dvc.yaml").write_text(text)
    monkeypatch.setenv("AIRLOOP_CODE", str(folder))


def test_a_stage_takes_timeout_and_cores_from_dvc_yaml() -> None:
    task = stage("train")
    assert isinstance(task, WorkspaceOperator)
    assert task.execution_timeout == timedelta(minutes=spec("train").timeout_minutes)
    assert task.pool_slots == spec("train").cpu
    assert task.names == ["train"]


def test_the_spark_stage_is_submitted() -> None:
    from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator

    task = stage("features")
    assert isinstance(task, SparkSubmitOperator)
    assert task._driver_memory == "4g"
    assert spark_memory("512Mi") == "512m"


def test_argv_is_what_dvc_runs() -> None:
    assert spec("features").item("2013-04") == "features@2013-04"
    assert spec("features").argv("2013-04") == ["python", "tasks/features.py", "--month", "2013-04"]
    assert spec("train").argv("2013-04") == ["python", "tasks/train.py"]
    assert spec("train").item("2013-04") == "train"


def test_while_another_task_runs_its_operator_is_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "ingest")
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_TASK_ID", "publish")
    task = stage("features")
    assert isinstance(task, WorkspaceOperator) and task.task_id == "features"
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_TASK_ID", "features")
    assert not isinstance(stage("features"), WorkspaceOperator)


def test_an_unknown_stage_is_named_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"stage\('fetaures'\).*no such stage; it has manifest, ingest, validate"):
        stage("fetaures")


@pytest.mark.parametrize(
    ("meta", "said"),
    [
        ("{engine: python}", "unknown or missing: cpu, memory, timeout_minutes"),
        ("{engine: python, cpu: 1, memory: 1Gi, timeout_minutes: 5, gpu: 1}", "unknown or missing: gpu."),
        ("{engine: ray, cpu: 1, memory: 1Gi, timeout_minutes: 5}", "meta.engine='ray' is unknown; use python or spark"),
    ],
)
def test_wrong_meta_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, meta: str, said: str) -> None:
    write_stages(tmp_path, f"stages: {{one: {{cmd: python one.py, meta: {meta}}}}}", monkeypatch)
    with pytest.raises(ConfigError) as caught:
        spec("one")
    assert said in str(caught.value)


def test_a_missing_dvc_yaml_names_the_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRLOOP_CODE", str(tmp_path))
    with pytest.raises(ConfigError, match="set AIRLOOP_CODE"):
        spec("train")


def test_acts_stay_beside_airflow_in_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRLOOP_PLACE", "cluster")
    assert isinstance(act("register"), WorkspaceOperator)
