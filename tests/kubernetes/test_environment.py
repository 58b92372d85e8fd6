"""What the objects of an environment say of each other, and of the code."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kubernetes.environment import Environment, cluster_objects, role_rules
from tests.kubernetes.network import selects
from tests.kubernetes.restricted import containers

VERBS: dict[str, dict[str, set[str]]] = {
    "airloop-airflow": {
        "pods": {"create", "get", "list", "watch", "patch", "delete", "deletecollection"},
        "pods/log": {"get"},
        "events": {"get", "list"},
        "jobs": {"create", "get", "list", "delete"},
        "services": {"create"},
        "configmaps": {"create", "get", "list", "watch", "patch", "delete", "deletecollection"},  # Spark's driver
        "deployments": {"get", "patch"},
    },
    "airloop-airflow-web": {"pods": {"get", "list"}, "pods/log": {"get"}},
}
"""All that any account may ask of the cluster; a new right belongs here with its reason beside it in roles.yaml."""


def test_accounts_have_these_rights_and_no_others(environment: Environment) -> None:
    assert not environment.all("ClusterRole") and not environment.all("ClusterRoleBinding")
    for account in environment.all("ServiceAccount"):
        found: dict[str, set[str]] = {}
        for rule in role_rules(environment, account):
            for resource in rule["resources"]:
                found.setdefault(resource, set()).update(rule["verbs"])
        assert found == VERBS.get(account, {}), account


def test_only_the_online_deployment_can_be_changed(environment: Environment) -> None:
    (rule,) = [r for r in role_rules(environment, "airloop-airflow") if "deployments" in r["resources"]]
    assert rule["resourceNames"] == ["airloop-online"]
    assert environment.settings["AIRLOOP_ONLINE_DEPLOYMENT"] == f"{namespace(environment)}/airloop-online"


def test_everything_lies_in_the_namespace(environment: Environment) -> None:
    outside = [each for each in environment.objects if each["kind"] != "Namespace"]
    assert {each["metadata"]["namespace"] for each in outside} == {namespace(environment)}
    assert {each["kind"] for each in cluster_objects()} == {"PriorityClass"}


def test_everything_says_what_it_is_part_of(environment: Environment) -> None:
    for each in [*environment.objects, *cluster_objects(), *environment.workloads.values()]:
        assert each["metadata"]["labels"]["app.kubernetes.io/part-of"] == "airloop", each["metadata"]


def test_selectors_find_their_pods(environment: Environment) -> None:
    for kind in ("Deployment", "StatefulSet"):
        for name, made in environment.all(kind).items():
            assert selects(made["spec"]["selector"], labels(environment, name)), name
    for name, budget in environment.all("PodDisruptionBudget").items():
        assert selects(budget["spec"]["selector"], labels(environment, name)), name
    for name, service in environment.all("Service").items():
        found = [
            n
            for n in environment.workloads
            if selects({"matchLabels": service["spec"]["selector"]}, labels(environment, n))
        ]
        assert found == [name]
        ports = {port["name"]: port["containerPort"] for port in first(environment, name)["ports"]}
        assert all(ports[port["targetPort"]] == port["port"] for port in service["spec"]["ports"]), name


def test_addresses_in_the_settings_are_services(environment: Environment) -> None:
    addresses = {f"http://{n}:{s['spec']['ports'][0]['port']}" for n, s in environment.all("Service").items()}
    said = {environment.settings.get(n) for n in ("AIRLOOP_ONLINE_URL", "MLFLOW_TRACKING_URI", "AWS_ENDPOINT_URL")}
    assert said - {None} <= addresses
    hosts = [each for each in first(environment, "airloop-mlflow")["command"] if each.startswith("--allowed-hosts=")]
    assert environment.settings["MLFLOW_TRACKING_URI"].removeprefix("http://") in hosts[0]


def test_probes_ask_what_the_service_answers(environment: Environment) -> None:
    from serving.app import create_app
    from tasks.storage.artefacts import Store

    routes = {getattr(route, "path", "") for route in create_app(Store("memory://probes")).routes}
    online = first(environment, "airloop-online")
    asked = {name: online[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    # A missing model makes a pod unready; it never restarts one, which would heal nothing.
    assert asked == {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}
    assert set(asked.values()) <= routes


def test_a_rollout_takes_no_answer_away(environment: Environment) -> None:
    spec = environment.all("Deployment")["airloop-online"]["spec"]
    assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    pod = spec["template"]["spec"]
    online = first(environment, "airloop-online")
    graceful = next(int(each.partition("=")[2]) for each in online["command"] if "graceful-shutdown" in each)
    assert online["lifecycle"]["preStop"]["sleep"]["seconds"] + graceful < pod["terminationGracePeriodSeconds"]


def test_scaling_is_the_autoscaler_s_alone(environment: Environment) -> None:
    scaler = environment.all("HorizontalPodAutoscaler")["airloop-online"]["spec"]
    target = environment.all(scaler["scaleTargetRef"]["kind"])[scaler["scaleTargetRef"]["name"]]
    assert "replicas" not in target["spec"], "each `kubectl apply` would set it back"
    assert scaler["minReplicas"] < scaler["maxReplicas"]
    assert "cpu" in first(environment, "airloop-online")["resources"]["requests"], "its share is what is measured"


def test_scaling_asks_for_metrics_that_exist(environment: Environment) -> None:
    from serving.metrics import Families

    published = {family.name for family in Families().registry.collect()}
    metrics = environment.all("HorizontalPodAutoscaler")["airloop-online"]["spec"]["metrics"]
    named = {metric["pods"]["metric"]["name"] for metric in metrics if metric["type"] == "Pods"}
    assert {metric["type"] for metric in metrics} - {"Pods"} == {"Resource"}
    assert named == (set() if environment.name == "dev" else {"airloop_online_in_flight"})
    assert named <= published


def test_the_adapter_serves_that_metric() -> None:
    import yaml

    from tests.kubernetes.kustomize import ROOT

    (rule,) = yaml.safe_load((ROOT / "monitoring/prometheus-adapter.yaml").read_text())["rules"]["custom"]
    assert rule["name"]["as"] == "airloop_online_in_flight"
    assert rule["seriesQuery"].startswith("airloop_online_in_flight{")
    assert rule["metricsQuery"].startswith("sum by (<<.GroupBy>>) ("), "a pod has a series for each model"


def test_serving_comes_first_and_spot_training_last() -> None:
    classes = {each["metadata"]["name"]: each for each in cluster_objects()}
    assert classes["airloop-training-spot"]["value"] < 0 < classes["airloop-serving"]["value"]
    assert classes["airloop-training-spot"]["preemptionPolicy"] == "Never"
    assert classes["airloop-training-spot"]["value"] > -10, "the cluster autoscaler starts no node below that"


def test_only_dev_keeps_data_in_the_namespace(environment: Environment) -> None:
    assert bool(environment.all("StatefulSet")) is (environment.name == "dev")
    assert ("AWS_ENDPOINT_URL" in environment.settings) is (environment.name == "dev")


def namespace(environment: Environment) -> str:
    return str(environment.namespace["metadata"]["name"])


def labels(environment: Environment, name: str) -> dict[str, str]:
    return dict(environment.workloads[name]["metadata"]["labels"])


def first(environment: Environment, name: str) -> dict[str, Any]:
    return next(containers(environment.workloads[name]["spec"]))


def test_an_idle_connection_is_closed_by_the_ingress_and_not_under_it(environment: Environment) -> None:
    """nginx keeps one for 60 s, Envoy and the clouds' balancers for up to 60 s by default."""
    (container,) = environment.workloads["airloop-online"]["spec"]["containers"]
    options = dict(word.removeprefix("--").split("=") for word in container["command"] if "=" in word)
    assert int(options["timeout-keep-alive"]) > 60
    assert options["host"] == "", "0.0.0.0 has no IPv6, :: has no IPv4"


@pytest.mark.parametrize(
    ("host", "answered"),
    [
        ("airloop-mlflow:5000", True),
        ("airloop-mlflow.airloop.svc:5000", True),
        ("airloop-mlflow.airloop-dev.svc.cluster.local:5000", True),
        ("127.0.0.1:5001", True),
        ("localhost:15000", True),
        ("airloop-mlflow.evil.example:5000", False),
        ("localhost.evil.example:5000", False),
        ("evil.example:5000", False),
    ],
)
def test_mlflow_answers_by_its_own_names_only(environment: Environment, host: str, *, answered: bool) -> None:
    from mlflow.server.security_utils import is_allowed_host_header

    (container,) = environment.workloads["airloop-mlflow"]["spec"]["containers"]
    (option,) = [word for word in container["command"] if word.startswith("--allowed-hosts=")]
    assert is_allowed_host_header(option.partition("=")[2].split(","), host) is answered
