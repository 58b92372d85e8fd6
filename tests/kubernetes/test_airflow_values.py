"""Values of Airflow's chart: what the chart cannot know of our images, accounts and settings. `helm template` checks the keys."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import kubernetes_validate

from tests.kubernetes.airflow_values import FOLDER, pod_template, values_of
from tests.kubernetes.environment import Environment
from tests.kubernetes.kustomize import ROOT, render
from tests.kubernetes.restricted import problems

REPOSITORY = FOLDER.parents[1]
PARTS = ("scheduler", "apiServer", "dagProcessor", "triggerer")
INLINE = {
    "fernetKey", "apiSecretKey", "jwtSecret", "webserverSecretKey", "metadataConnection", "brokerUrl", "extraSecrets", "password", "pass",
}  # fmt: skip
"""Keys of the chart that would take the secret itself."""
ACCOUNTS = (*PARTS, "workers", "migrateDatabaseJob", "databaseCleanup", "statsd")


def test_the_worker_s_pod_is_as_kubernetes_defines_it(environment: Environment, values: dict[str, Any]) -> None:
    assert kubernetes_validate.validate(pod_template(values), "1.37", strict=True)


def test_pods_of_the_chart_pass_the_restricted_standard(values: dict[str, Any]) -> None:
    assert problems(_spec(values["securityContexts"]["pod"], values["securityContexts"]["containers"])) == []
    statsd = values["statsd"]["securityContexts"]  # it does not take the chart's general one
    assert problems(_spec(statsd["pod"], statsd["container"])) == []
    for container in values["apiServer"].get("extraInitContainers", ()):
        assert problems({"securityContext": values["securityContexts"]["pod"], "containers": [container]}) == []


def _spec(pod: dict[str, Any], container: dict[str, Any]) -> dict[str, Any]:
    return {"securityContext": pod, "containers": [{"name": "main", "securityContext": container}]}


def test_accounts_are_ours(environment: Environment, values: dict[str, Any]) -> None:
    assert values["rbac"]["create"] is False
    for part in ACCOUNTS:
        account = values[part]["serviceAccount"]
        assert account["create"] is False and account["name"] in environment.all("ServiceAccount"), part


def test_nothing_calls_what_only_airflow_s_own_image_has(values: dict[str, Any]) -> None:
    """The chart's default probes run /entrypoint and its log sidecars /clean-logs: a restart every five minutes."""
    for part in ("scheduler", "dagProcessor", "triggerer"):
        assert values[part]["logGroomerSidecar"]["enabled"] is False, part
        assert values[part]["livenessProbe"]["command"], part
    assert values["scheduler"]["startupProbe"]["command"]
    assert values["config"]["scheduler"]["enable_health_check"] == "True"
    called = values["scheduler"]["livenessProbe"]["command"][2]
    assert (REPOSITORY / "docker" / Path(called).name).exists()


def test_images_are_the_environment_s(environment: Environment, values: dict[str, Any]) -> None:
    images = {f"{image['repository']}:{image['tag']}" for image in values["images"].values()}
    assert images == {environment.settings["AIRLOOP_IMAGE"].replace("{role}", "airflow")}
    roles = {"airloop-online": "serve", "airloop-mlflow": "mlflow"}
    for name, role in roles.items():
        (container,) = environment.workloads[name]["spec"]["containers"]
        assert container["image"] == environment.settings["AIRLOOP_IMAGE"].replace("{role}", role)


def test_the_small_login_is_for_dev_only(environment: Environment, values: dict[str, Any]) -> None:
    manager = values["config"]["core"]["auth_manager"]
    assert manager.endswith("SimpleAuthManager") is (environment.name == "dev")
    assert values["createUserJob"]["enabled"] is False, "it would make admin with the password admin"


def test_secrets_are_named_and_never_written_down(values: dict[str, Any]) -> None:
    assert not INLINE & _keys(values), "put it into a Secret, and name that"
    assert values["data"] == {"metadataSecretName": "airloop-airflow"}


def test_a_worker_knows_no_database(values: dict[str, Any]) -> None:
    assert "sql_alchemy_conn" not in values["podTemplate"].lower()
    assert "airloop-airflow\n" not in values["podTemplate"].replace("serviceAccountName: airloop-airflow\n", "")


def test_settings_reach_every_part(environment: Environment, values: dict[str, Any]) -> None:
    for name in ("airloop-settings", "airloop-airflow"):
        assert f"configMapRef: {{name: {name}}}" in values["extraEnvFrom"]
        assert f"configMapRef: {{name: {name}}}" in values["podTemplate"]
        assert name in environment.all("ConfigMap")


def test_what_is_loaded_by_name_is_in_the_image(values: dict[str, Any]) -> None:
    from importlib.metadata import version

    assert values["airflowVersion"] == version("apache-airflow")
    named = set(re.findall(r"airflow\.providers\.(\w+)", str(values["config"])))
    said = (REPOSITORY / "requirements/airflow.in").read_text() + (REPOSITORY / "docs/kubernetes.md").read_text()
    for provider in named:
        assert f"apache-airflow-providers-{provider}" in said, (
            f"the image has no provider {provider}, and no page says so"
        )


def test_logs_go_to_the_store_without_a_provider(values: dict[str, Any]) -> None:
    """`remote_logging` would make Airflow load its Amazon provider, which the image does not have: it would not start."""
    logging = values["config"]["logging"]
    module, _, name = logging["logging_config_class"].rpartition(".")
    code = (REPOSITORY / "plugins" / f"{module.replace('.', '/')}.py").read_text()
    assert f'"{name}"' in code and "REMOTE_TASK_LOG = " in code
    assert "remote_logging" not in logging and logging["remote_base_log_folder"].startswith("s3://airloop/")


def test_the_docs_make_every_secret(environment: Environment, values: dict[str, Any]) -> None:
    page = (REPOSITORY / "docs/kubernetes.md").read_text()
    text = _text() + str(environment.objects)
    named = set(re.findall(r"secret(?:Ref|KeyRef)'?\"?: \{(?:'key': '[\w-]+', )?'?name'?: '?([\w-]+)", text))
    named |= set(re.findall(r"(?:secretName|SecretName): ([\w-]+)", text))
    assert {"airloop-store", "airloop-online", "airloop-mlflow", "airloop-airflow"} <= named
    for name in named:
        assert f"create secret generic {name} " in page, f"docs/kubernetes.md: say how to make the Secret {name}"


def _keys(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*(_keys(each) for each in value.values()))
    return set().union(*(_keys(each) for each in value)) if isinstance(value, list) else set()


def _text() -> str:
    return "".join(file.read_text() for file in sorted(FOLDER.glob("values-*.yaml")))


def test_the_chart_s_version_is_said_once() -> None:
    """In the page, the values and the pipeline that checks them."""
    places = [REPOSITORY / "docs/kubernetes.md", FOLDER / "values-base.yaml", REPOSITORY / ".github/workflows/ci.yml"]
    assert len({version for place in places for version in re.findall(r"--version (\S+)", place.read_text())}) == 1


def test_the_docs_count_the_connections_to_postgresql() -> None:
    values = values_of("prod")
    database, replicas = values["config"]["database"], {part: values[part].get("replicas", 1) for part in PARTS}
    processes = sum(replicas.values()) + replicas["apiServer"] * (int(values["config"]["api"]["workers"]) - 1)
    each = int(database["sql_alchemy_pool_size"]) + int(database["sql_alchemy_max_overflow"])
    (mlflow,) = Environment("prod", render(ROOT / "overlays/prod")).workloads["airloop-mlflow"]["spec"]["containers"]
    workers = next(int(word.partition("=")[2]) for word in mlflow["command"] if word.startswith("--workers="))
    sqlalchemy = 5 + 10  # pool_size and max_overflow by default
    page = " ".join((REPOSITORY / "docs/kubernetes.md").read_text().split())
    assert (
        f"Airflow has {processes} processes with at most {each} connections each and MLflow {workers} with at most "
        f"{sqlalchemy}: {processes * each + workers * sqlalchemy} at most"
    ) in page
