"""Who may talk to whom, asked of the rules as they are written."""

from __future__ import annotations

import pytest

from tests.kubernetes.environment import Environment
from tests.kubernetes.network import Outside, Pod

STAGE = Pod({"app.kubernetes.io/part-of": "airloop", "airloop.io/stage": "train"})
TOGETHER = Pod({**STAGE.labels, "airloop.io/group": "airloop-train-x1"})
EXECUTOR = Pod({"spark-role": "executor"})
DNS = Pod({"k8s-app": "kube-dns"}, {"kubernetes.io/metadata.name": "kube-system"})
PROMETHEUS = Pod({}, {"kubernetes.io/metadata.name": "monitoring"})
INGRESS = Pod({}, {"airloop.io/ingress": "true"})
CUSTOMER = Pod({}, {"airloop.io/online-client": "true"})
STRANGER = Pod({"tier": "airflow", "component": "worker"}, {"kubernetes.io/metadata.name": "default"})
OPENSHIFT_DNS = Pod({}, {"kubernetes.io/metadata.name": "openshift-dns"})
INTERNET = Outside("203.0.113.7")
INTERNET6 = Outside("2001:db8::7")
METADATA6 = [Outside("fd00:ec2::254"), Outside("fd20:ce::254"), Outside("fe80::1")]
METADATA = Outside("169.254.169.254")


def part(component: str) -> Pod:
    return Pod({"tier": "airflow", "component": component, "release": "airflow"})


def app(name: str) -> Pod:
    return Pod({"app.kubernetes.io/name": f"airloop-{name}", "app.kubernetes.io/part-of": "airloop"})


WORKER, API = part("worker"), part("api-server")
NEEDED = [
    *((pod, INTERNET, 443) for pod in (STAGE, EXECUTOR, WORKER, API, part("triggerer"), app("online"), app("mlflow"))),
    *((pod, INTERNET6, 443) for pod in (STAGE, WORKER, app("online"))),
    (WORKER, INTERNET6, 6443),
    (part("scheduler"), INTERNET6, 5432),
    (WORKER, INTERNET, 8443),
    (STAGE, app("mlflow"), 5000),
    (TOGETHER, app("mlflow"), 5000),
    (TOGETHER, TOGETHER, 29500),
    (TOGETHER, TOGETHER, 41234),
    (WORKER, app("mlflow"), 5000),
    (WORKER, app("online"), 8000),
    (WORKER, API, 8080),
    (part("triggerer"), API, 8080),
    (API, WORKER, 8793),
    (API, part("triggerer"), 8794),
    *((part(name), INTERNET, 6443) for name in ("scheduler", "triggerer", "worker")),
    *((part(n), INTERNET, 5432) for n in ("scheduler", "api-server", "dag-processor", "triggerer", "run-airflow-migrations")),
    (app("mlflow"), INTERNET, 5432),
    (EXECUTOR, WORKER, 7078),
    (WORKER, EXECUTOR, 40123),
    (EXECUTOR, EXECUTOR, 7079),
    (INGRESS, API, 8080),
    (INGRESS, app("online"), 8000),
    (CUSTOMER, app("online"), 8000),
    (Pod({"airloop.io/online-client": "true"}), app("online"), 8000),
    (PROMETHEUS, app("online"), 8000),
    (PROMETHEUS, part("statsd"), 9102),
    (PROMETHEUS, API, 8080),
]  # fmt: skip
REFUSED = [
    *((STAGE, address, port) for address in METADATA6 for port in (80, 443)),
    (STAGE, INTERNET, 8443),
    *((pod, METADATA, port) for pod in (STAGE, WORKER, app("online")) for port in (80, 443)),
    (STAGE, app("online"), 8000),
    (STAGE, API, 8080),
    (STAGE, WORKER, 8793),
    (STAGE, STAGE, 8000),
    (STAGE, TOGETHER, 29500),
    (TOGETHER, WORKER, 8793),
    (STAGE, INTERNET, 80),
    (STAGE, INTERNET, 6443),
    (EXECUTOR, app("mlflow"), 5000),
    (WORKER, INTERNET, 5432),
    (app("online"), app("mlflow"), 5000),
    (app("mlflow"), app("online"), 8000),
    (STRANGER, app("online"), 8000),
    (STRANGER, app("mlflow"), 5000),
    (STRANGER, API, 8080),
    (STRANGER, STAGE, 8080),
    (INGRESS, app("mlflow"), 5000),
    (PROMETHEUS, app("mlflow"), 5000),
    (Pod({}), app("mlflow"), 5000),
]


@pytest.mark.parametrize(("source", "target", "port"), NEEDED, ids=str)
def test_what_is_needed_goes_through(environment: Environment, source: Pod, target: Pod, port: int) -> None:
    assert environment.network.allows(source, target, port)


@pytest.mark.parametrize(("source", "target", "port"), REFUSED, ids=str)
def test_all_else_does_not(environment: Environment, source: Pod, target: Pod, port: int) -> None:
    assert not environment.network.allows(source, target, port)


def test_names_are_looked_up_by_all(environment: Environment) -> None:
    for template in environment.workloads.values():
        pod = Pod(template["metadata"]["labels"])
        assert environment.network.allows(pod, DNS, 53, "UDP") and environment.network.allows(pod, DNS, 53)
        assert not environment.network.allows(pod, DNS, 443)
        assert environment.network.allows(pod, OPENSHIFT_DNS, 5353, "UDP")
        assert not environment.network.allows(pod, OPENSHIFT_DNS, 443)


def test_dev_reaches_its_own_store_and_database(environment: Environment) -> None:
    network = environment.network
    here = environment.name == "dev"
    for pod in (STAGE, EXECUTOR, WORKER, API, app("online"), app("mlflow")):
        assert network.allows(pod, app("s3"), 8333) is here
    assert network.allows(part("scheduler"), app("postgres"), 5432) is here
    assert network.allows(app("mlflow"), app("postgres"), 5432) is here
    assert not any(network.allows(pod, app("postgres"), 5432) for pod in (STAGE, WORKER, EXECUTOR, app("online")))
