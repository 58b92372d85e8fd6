"""The pods that plugins/ makes, held against the environment that they are made in."""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest
import yaml
from airloop.settings import LinkSettings, PlaceSettings, PodSettings, load
from kubernetes.utils.quantity import parse_quantity

from tests.kubernetes.environment import Environment, cluster_objects, role_rules
from tests.kubernetes.kustomize import ROOT
from tests.kubernetes.network import Pod, selects
from tests.kubernetes.restricted import problems

STAGES = sorted(yaml.safe_load((ROOT.parent / "dvc.yaml").read_text())["stages"])


@pytest.fixture
def pods(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """One pod a stage, as Airflow sends it: made with the settings that this environment gives to Airflow."""
    from tests.plugins.conftest import FLIGHTS, make_context

    for name, value in environment.settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AIRLOOP_NAMESPACE", environment.namespace["metadata"]["name"])
    from airloop.stage import stage
    from kubernetes.client import ApiClient

    made = {}
    for name in STAGES:
        monkeypatch.setenv(f"AIRLOOP_PLACE_{name.upper()}", "pod")  # Spark's too
        task = stage(FLIGHTS, name)
        # The labels that identify a task's pod come from its task instance, which is Airflow's part.
        monkeypatch.setattr(type(task), "_get_ti_pod_labels", lambda *_, **__: {"dag_id": "flights.train"})
        made[name] = ApiClient().sanitize_for_serialization(task.build_pod_request_obj(make_context(), dry_run=True))
    return made


def test_the_environment_takes_them(environment: Environment, pods: dict[str, dict[str, Any]]) -> None:
    """One test for all claims: making the pods is what costs."""
    (quota,), (limits,) = environment.all("ResourceQuota").values(), environment.all("LimitRange").values()
    greatest = limits["spec"]["limits"][0]["max"]
    classes = {each["metadata"]["name"] for each in cluster_objects()}
    for name, pod in pods.items():
        assert kubernetes_validate.validate(pod, "1.37", strict=True), name
        spec, labels = pod["spec"], pod["metadata"]["labels"]
        assert problems(spec) == [], name
        assert pod["metadata"]["namespace"] == environment.namespace["metadata"]["name"]
        account = spec["serviceAccountName"]
        assert account in environment.all("ServiceAccount") and not role_rules(environment, account)
        assert spec["automountServiceAccountToken"] is False
        assert spec.get("priorityClassName") in {None, *classes}
        assert (spec.get("priorityClassName") == "airloop-training-spot") is (name == "train"), name
        (container,) = spec["containers"]
        wanted = container["resources"]["requests"]
        for resource in ("cpu", "memory"):
            assert parse_quantity(wanted[resource]) <= parse_quantity(greatest[resource]), name
            assert parse_quantity(wanted[resource]) <= parse_quantity(quota["spec"]["hard"][f"requests.{resource}"]), (
                name
            )
        assert [each["secretRef"]["name"] for each in container["envFrom"]] == ["airloop-store"]
        rules = environment.all("NetworkPolicy")["airloop-stage"]["spec"]["podSelector"]
        assert selects(rules, labels), "the rules for stages are not about this pod"
        mlflow = Pod(environment.workloads["airloop-mlflow"]["metadata"]["labels"])
        assert environment.network.allows(Pod(labels), mlflow, 5000)
        assert labels["app.kubernetes.io/part-of"] == "airloop" and labels["airloop.io/stage"] == name
        assert labels["airloop.io/cost-owner"] == environment.settings["AIRLOOP_COST_OWNER"]


def test_every_setting_is_one_that_the_code_reads(environment: Environment) -> None:
    code = "".join(
        file.read_text()
        for folder in ("models", "plugins", "tasks", "serving")
        for file in (ROOT.parent / folder).rglob("*.py")
    )
    unread = {name for name in environment.settings if name.startswith("AIRLOOP_") and not _read(name, code)}
    assert unread == set()


def _read(name: str, code: str) -> bool:
    """As a whole, or as a field of a settings class with the prefix AIRLOOP_."""
    return f'"{name}"' in code or f"    {name.removeprefix('AIRLOOP_').lower()}: " in code


def test_a_group_is_as_kubernetes_defines_it_and_may_talk_among_itself(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.plugins.conftest import FLIGHTS, make_context

    for name, value in environment.settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AIRLOOP_NAMESPACE", environment.namespace["metadata"]["name"])
    from airloop.pod_group import job_of, service_of
    from airloop.stage import stage
    from kubernetes.client import ApiClient

    task = stage(FLIGHTS, "train")
    monkeypatch.setattr(type(task), "_get_ti_pod_labels", lambda *_, **__: {"dag_id": "flights.train"})
    made = job_of(task.build_pod_request_obj(make_context(), dry_run=True), 4)
    made.metadata.uid = "1a2b3c4d"
    job, service = (ApiClient().sanitize_for_serialization(each) for each in (made, service_of(made)))
    assert kubernetes_validate.validate(job, "1.37", strict=True)
    assert kubernetes_validate.validate(service, "1.37", strict=True)
    template = job["spec"]["template"]
    assert problems(template["spec"]) == []
    pod = Pod(template["metadata"]["labels"])
    assert environment.network.allows(pod, pod, 29500)


def test_the_environment_s_settings_are_ones_that_the_code_takes(environment: Environment) -> None:
    for group in (PlaceSettings, PodSettings, LinkSettings):
        load(group, environment.settings)
    assert load(PlaceSettings, environment.settings).place == "cluster"
