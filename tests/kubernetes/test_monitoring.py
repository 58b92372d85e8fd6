"""What Prometheus may scrape on a cluster, with which token, and that the alerts ask for just that."""

from __future__ import annotations

import re
import subprocess
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml

from tests.kubernetes.airflow_values import values_of
from tests.kubernetes.environment import Environment
from tests.kubernetes.kustomize import ROOT, Object, render

REPOSITORY = ROOT.parent
COMPONENT = ROOT / "components/prometheus-operator"
TOKEN = {"name": "airloop-metrics", "key": "token"}


def of_kind(kind: str) -> dict[str, Object]:
    return {each["metadata"]["name"]: each for each in render(COMPONENT) if each["kind"] == kind}


def endpoints() -> dict[str, dict[str, Any]]:
    """Job to what is scraped for it."""
    monitors = [*of_kind("ServiceMonitor").values(), *of_kind("PodMonitor").values()]
    found = [each for m in monitors for each in m["spec"].get("endpoints", m["spec"].get("podMetricsEndpoints"))]
    return {each["relabelings"][0]["replacement"]: each for each in found}


def chart() -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The scrape jobs for a Prometheus without operator, and its server's values."""
    values = yaml.safe_load((ROOT / "monitoring/prometheus.yaml").read_text())
    return yaml.safe_load(values["extraScrapeConfigs"]), values["server"]


def jobs_asked_for() -> set[str]:
    rules = "".join(path.read_text() for path in (REPOSITORY / "docker/prometheus").glob("*.yaml"))
    return set(re.findall(r'job="(\w+)"', rules))


def test_the_api_server_has_the_token_that_the_monitor_shows(values: dict[str, Any]) -> None:
    env = {each["name"]: each["valueFrom"]["secretKeyRef"] for each in values["apiServer"]["env"]}
    assert env["AIRLOOP_METRICS_TOKEN"] == TOKEN
    assert endpoints()["pipeline"]["authorization"]["credentials"] == TOKEN


def test_monitors_ask_where_something_answers(environment: Environment) -> None:
    prefix = endpoints()["pipeline"]["path"].rstrip("/")
    assert any(f'"{prefix}"' in source.read_text() for source in (REPOSITORY / "plugins").glob("*.py"))
    online = environment.workloads["airloop-online"]
    (container,) = online["spec"]["containers"]
    assert endpoints()["online"]["port"] in {port["name"] for port in container["ports"]}
    selector = of_kind("PodMonitor")["airloop-online"]["spec"]["selector"]["matchLabels"]
    assert selector.items() <= online["metadata"]["labels"].items()
    assert f'"{endpoints()["online"]["path"]}"' in (REPOSITORY / "serving/app.py").read_text()


def test_each_job_that_an_alert_asks_for_is_scraped() -> None:
    jobs, server = chart()
    assert jobs_asked_for() == {"pipeline", "online"}
    assert jobs_asked_for() <= set(endpoints())
    assert jobs_asked_for() == {job["job_name"] for job in jobs}
    mounted = {mount["secretName"]: mount["mountPath"] for mount in server["extraSecretMounts"]}
    shown = next(job["authorization"]["credentials_file"] for job in jobs if job["job_name"] == "pipeline")
    assert shown == f"{mounted[TOKEN['name']]}/{TOKEN['key']}"


@pytest.mark.parametrize("name", ["pipeline", "service"])
def test_alerts_are_those_of_the_containers(name: str) -> None:
    """But for what a person does then."""
    here = {group["name"]: group["rules"] for group in of_kind("PrometheusRule")["airloop"]["spec"]["groups"]}
    there = yaml.safe_load((REPOSITORY / f"docker/prometheus/{name}.yaml").read_text())["groups"]
    for group in there:
        assert [_bare(rule) for rule in here[group["name"]]] == [_bare(rule) for rule in group["rules"]], (
            "write the change into kubernetes/components/prometheus-operator/rules.yaml as well"
        )
        assert not [rule for rule in here[group["name"]] if "docker" in str(rule)]


def _bare(rule: dict[str, Any]) -> dict[str, Any]:
    annotations = {name: text for name, text in rule.get("annotations", {}).items() if name != "action"}
    return {**rule, "annotations": annotations}


def test_the_database_s_clean_up_is_a_command_that_airflow_has_and_it_fails_when_it_fails() -> None:
    from airflow.cli.cli_parser import get_parser

    settings = values_of("prod")["databaseCleanup"]
    option, line = settings["args"]
    assert (settings["command"], option) == (["bash"], "-c")
    line = line.replace("{{ .Values.databaseCleanup.retentionDays }}", str(settings["retentionDays"]))
    words = re.sub(r'"\$\(date [^)]*\)"', "2026-01-01T00:00:00+00:00", line).split()
    assert words[:2] == ["exec", "airflow"] and "{{" not in line
    asked = get_parser().parse_args(words[2:])
    assert asked.skip_archive, "else what was deleted stays, in tables of another name"
    assert asked.error_on_cleanup_failure and asked.yes


def test_the_date_of_the_clean_up_is_one_that_airflow_reads() -> None:
    line = values_of("prod")["databaseCleanup"]["args"][1].replace("{{ .Values.databaseCleanup.retentionDays }}", "365")
    command = re.search(r"\$\((date [^)]*)\)", line)
    assert command
    said = subprocess.run(["bash", "-c", command[1]], capture_output=True, text=True, check=True).stdout.strip()
    age = datetime.now(UTC) - datetime.fromisoformat(said)
    assert timedelta(days=364) < age < timedelta(days=366)
