from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from airloop.running import ProcessOperator
from airloop.settings import code
from airloop.stage import job, spark_memory, stage

from tasks.core.errors import ConfigError
from tasks.running.catalogue import Catalogue
from tests.plugins.conftest import FLIGHTS


def test_a_stage_takes_timeout_and_cores_from_dvc_yaml() -> None:
    task, work = stage(FLIGHTS, "train"), Catalogue(code()).stage("train")
    assert isinstance(task, ProcessOperator)
    assert task.execution_timeout == timedelta(minutes=work.timeout_minutes)
    assert task.pool_slots == work.cpu
    assert (task.action, task.names) == ("stage", ["train"])


def test_a_job_takes_them_from_jobs_yaml() -> None:
    task, work = job(FLIGHTS, "monitor"), Catalogue(code()).job("monitor")
    assert isinstance(task, ProcessOperator)
    assert task.execution_timeout == timedelta(minutes=work.timeout_minutes)
    assert task.pool_slots == work.cpu
    assert (task.action, task.names) == ("job", ["monitor"])


def test_a_job_without_a_workspace_is_run_without_one() -> None:
    task = job(FLIGHTS, "deploy")
    assert isinstance(task, ProcessOperator)
    assert task.action == "direct"


def test_the_spark_stage_is_submitted() -> None:
    from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator

    task = stage(FLIGHTS, "features")
    assert isinstance(task, SparkSubmitOperator)
    assert task._driver_memory == "4g"
    assert spark_memory("512Mi") == "512m"


def test_a_spark_job_is_submitted_too() -> None:
    from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator

    task = job(FLIGHTS, "score")
    assert isinstance(task, SparkSubmitOperator)
    assert (task._driver_memory, task.pool_slots) == ("4g", 2)


def test_while_another_task_runs_its_operator_is_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "ingest")
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_TASK_ID", "publish")
    task = stage(FLIGHTS, "features")
    assert isinstance(task, ProcessOperator) and task.task_id == "features"
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_TASK_ID", "features")
    assert not isinstance(stage(FLIGHTS, "features"), ProcessOperator)


@pytest.mark.parametrize(("make", "name"), [(stage, "fetaures"), (stage, "publish"), (job, "train")])
def test_an_unknown_name_is_answered_with_those_there_are(make, name: str) -> None:
    file, first = ("dvc.yaml", "manifest, ingest") if make is stage else ("jobs.yaml", "publish, score")
    with pytest.raises(ConfigError, match=rf"{file} has no {make.__name__} '{name}'; it has {first}"):
        make(FLIGHTS, name)


@pytest.mark.parametrize(
    ("meta", "said"),
    [
        ("{engine: python}", "unknown or missing: cpu, memory, timeout_minutes"),
        ("{engine: python, cpu: 1, memory: 1Gi, timeout_minutes: 5, gpu: 1}", "unknown or missing: gpu."),
        ("{engine: ray, cpu: 1, memory: 1Gi, timeout_minutes: 5}", "meta.engine='ray' is unknown; use python or spark"),
        (
            "{engine: python, cpu: 1, memory: 4g, timeout_minutes: 5}",
            "meta.memory='4g' is no amount of memory; write 4Gi",
        ),
        (
            "{engine: python, cpu: 0.5, memory: 1Gi, timeout_minutes: 5}",
            "meta.cpu=0.5 is no whole number of at least 1",
        ),
        ("{engine: python, cpu: 1, memory: 1Gi, timeout_minutes: 0}", "meta.timeout_minutes=0 is no whole number"),
        ("{engine: python, cpu: 1, memory: 1Gi, timeout_minutes: 5, nodes: '2'}", "meta.nodes='2' is no whole number"),
        ("{engine: python, cpu: 1, memory: 1Gi, timeout_minutes: 5, spot: 1}", "meta.spot=1 is no switch; write true"),
    ],
)
def test_wrong_meta_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, meta: str, said: str) -> None:
    (tmp_path / "dvc.yaml").write_text(f"stages: {{one: {{cmd: python one.py, meta: {meta}}}}}")
    monkeypatch.setenv("AIRLOOP_CODE", str(tmp_path))
    with pytest.raises(ConfigError) as caught:
        stage(FLIGHTS, "one")
    assert said in str(caught.value)


def test_a_missing_dvc_yaml_names_the_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRLOOP_CODE", str(tmp_path))
    with pytest.raises(ConfigError, match="set AIRLOOP_CODE"):
        stage(FLIGHTS, "train")


@pytest.mark.parametrize("name", ["publish", "register", "deploy", "rescore"])
def test_small_jobs_stay_beside_airflow_in_a_cluster(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("AIRLOOP_PLACE", "cluster")
    assert isinstance(job(FLIGHTS, name), ProcessOperator)


@pytest.mark.parametrize("name", ["score", "monitor"])
def test_heavy_jobs_are_pods_in_a_cluster(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("AIRLOOP_PLACE", "cluster")
    monkeypatch.setenv("AIRLOOP_IMAGE", "registry.example/airloop-{role}:1")
    assert type(job(FLIGHTS, name)).__name__ == "StagePodOperator"


@pytest.mark.parametrize("place", ["embedded", "cluster"])
def test_a_stage_knows_whether_its_run_is_started_again_wherever_it_runs(
    monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setenv("AIRLOOP_PLACE", place)
    monkeypatch.setenv("AIRLOOP_IMAGE", "registry.example/airloop-{role}:1")
    assert stage(FLIGHTS, "manifest", "ingest", resumable=True).resumable
    assert not stage(FLIGHTS, "train").resumable
