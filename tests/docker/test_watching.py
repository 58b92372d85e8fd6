"""Prometheus' configuration, the alerts and Grafana's dashboards, read as data and by Prometheus' own promtool."""

import json
import re
import shutil
import subprocess

import pytest
import yaml

from local.paths import ROOT
from tests.docker.watching import DASHBOARDS, RULES, asked, exported, labels_asked, panels, rules

ALERTS = [rule for _, rule in rules() if "alert" in rule]
PLACEHOLDERS = {"$__rate_interval": "5m"}
"""What Grafana puts into a query."""


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("there is no promtool here (Debian: apt-get install prometheus)")
    return found


def as_asked(expression: str) -> str:
    for name, value in PLACEHOLDERS.items():
        expression = expression.replace(name, value)
    return expression


@pytest.mark.parametrize(
    ("expression", "names", "labels"),
    [
        ('sum by (status) (rate(a_total{x=~"b.*"}[5m])) / on() max(c) > 0', {"a_total", "c"}, {"x", "status"}),
        ("time() - a{dag_id='x'} > 35 * 86400 and on(interval) b", {"a", "b"}, {"dag_id", "interval"}),
        ("(sum(a) or vector(0)) == 0", {"a"}, set()),
        ("histogram_quantile(0.99, sum by (le) (rate(a_bucket[$__rate_interval])))", {"a_bucket"}, {"le"}),
        ("a:b:rate5m unless c", {"a:b:rate5m", "c"}, set()),
    ],
)
def test_names_are_found_in_an_expression(expression, names, labels):
    assert (asked(expression), labels_asked(expression)) == (names, labels)


QUERIES = [
    *((f"{dashboard}: {title}", query) for dashboard, title, query in panels()),
    *((rule.get("alert") or rule["record"], rule["expr"]) for _, rule in rules()),
]


@pytest.mark.parametrize(("where", "query"), QUERIES)
def test_what_is_asked_for_is_exported_with_these_labels(where, query):
    there = exported()
    unknown = asked(query) - set(there)
    assert asked(query) and not unknown, f"{where}: nothing exports {sorted(unknown)}"
    known = set().union(*(there[name] for name in asked(query)))
    assert labels_asked(query) <= known, (
        f"{where}: none of {sorted(asked(query))} has the label {sorted(labels_asked(query) - known)}"
    )


def test_every_metric_of_ours_is_asked_for_or_said_to_be_for_people():
    """A metric that nobody looks at is work for every scrape."""
    shown = set().union(*(asked(query) for _, query in QUERIES))
    families = {
        re.sub(r"_(total|bucket|created|sum|count)$", "", name) for name in exported() if name.startswith("airloop_")
    }
    assert families - {re.sub(r"_(total|bucket)$", "", name) for name in shown} == {
        "airloop_dag_last_queued_seconds", "airloop_interval_champion", "airloop_gate_failures", "airloop_pool_open_slots",
        "airloop_task_last_tries", "airloop_tasks_waiting", "airloop_online_log_errors",
    }  # fmt: skip


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_says_how_bad_it_is_what_it_is_and_what_to_do(rule):
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert set(rule["annotations"]) == {"summary", "action"}
    used = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"] + rule["annotations"]["action"]))
    known = set().union(*(exported()[name] for name in asked(rule["expr"])))
    assert used <= known, f"its sentence names labels that it does not have: {used - known}"


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_about_a_model_names_it(rule):
    """Where a sum over the models would hide one behind another, the alert has no label to name it by."""
    if any("model" in exported()[name] for name in asked(rule["expr"])):
        assert re.search(r"\$labels\.(model|dag_id)\b", rule["annotations"]["summary"])
        assert not re.search(r"\b(sum|max|min|count)\s*\(|by \((?!model)", rule["expr"]), "it adds models up"


OF_ALL_MODELS = {"sum(airloop_dag_last_failed)"}


@pytest.mark.parametrize(("dashboard", "title", "query"), [each for each in panels() if each[2] not in OF_ALL_MODELS])
def test_a_panel_shows_the_model_that_was_chosen(dashboard, title, query):
    (variable,) = DASHBOARDS[dashboard]["templating"]["list"]
    listed = re.fullmatch(r"label_values\((\w+), model\)", variable["query"]["query"])
    assert variable["name"] == "model" and listed and "model" in exported()[listed[1]]
    for name in asked(query):
        if "model" in exported()[name]:
            assert query.count(name) == query.count(f'{name}{{model="$model"'), f"{title}: {name} of all models"


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_is_whole(name):
    dashboard = DASHBOARDS[name]
    source = yaml.safe_load((ROOT / "docker/grafana/datasource.yaml").read_text())["datasources"][0]["uid"]
    numbers = [panel["id"] for panel in dashboard["panels"]]
    assert dashboard["uid"] == f"airloop-{name}" and len(set(numbers)) == len(numbers)
    for panel in dashboard["panels"]:
        assert panel["targets"] and panel["description" if "description" in panel else "title"]
        assert panel["datasource"]["uid"] == source, f"{panel['title']}: the provisioned source is {source}"
    assert f"docker/grafana/dashboards/{name}.json" in (ROOT / "docker/grafana/Dockerfile").read_text()


@pytest.mark.parametrize("name", DASHBOARDS)
def test_no_panel_covers_another_or_leaves_the_grid(name):
    taken = set()
    for panel in DASHBOARDS[name]["panels"]:
        at = panel["gridPos"]
        assert at["x"] >= 0 and at["x"] + at["w"] <= 24, panel["title"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, f"{panel['title']} covers another panel"
        taken |= cells


def test_prometheus_reads_every_file_of_rules_and_asks_whom_compose_starts(services):
    config = yaml.safe_load((ROOT / "docker/prometheus/prometheus.yaml").read_text())
    assert config["rule_files"] == ["rules/*.yaml"]
    copies = re.findall(
        r"^COPY --chmod=0644 (.*) (/\S+)$", (ROOT / "docker/prometheus/Dockerfile").read_text(), re.MULTILINE
    )
    (rules_there,) = [sources.split() for sources, target in copies if target == "/etc/airloop/rules/"]
    assert sorted(rules_there) == sorted(f"docker/prometheus/{name}.yaml" for name in RULES)
    assert ("docker/prometheus/prometheus.yaml", "/etc/airloop/") in copies
    hosts = {
        t.partition(":")[0] for job in config["scrape_configs"] for s in job["static_configs"] for t in s["targets"]
    }
    assert hosts == {"online-1", "online-2", "api-server"} <= set(services)


def test_promtool_accepts_configuration_and_rules(promtool, tmp_path):
    shutil.copytree(ROOT / "docker/prometheus", tmp_path / "rules")
    shutil.move(tmp_path / "rules/prometheus.yaml", tmp_path)
    config = (tmp_path / "prometheus.yaml").read_text().replace("/dev/shm/token", str(tmp_path / "token"))
    (tmp_path / "prometheus.yaml").write_text(config)
    (tmp_path / "token").write_text("t")
    done = subprocess.run(
        [promtool, "check", "config", str(tmp_path / "prometheus.yaml")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("rules found") == len(RULES)


def test_promtool_reads_every_query_of_the_dashboards(promtool, tmp_path):
    """As rules, since it has no other way to only parse an expression."""
    made = [{"record": f"query:{n}", "expr": as_asked(query)} for n, (_, _, query) in enumerate(panels())]
    (tmp_path / "queries.yaml").write_text(json.dumps({"groups": [{"name": "queries", "rules": made}]}))
    done = subprocess.run(
        [promtool, "check", "rules", str(tmp_path / "queries.yaml")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and f"{len(made)} rules found" in done.stdout, done.stdout + done.stderr


def test_each_alert_fires_when_it_should_and_not_before(promtool):
    """tests/docker/alerts.yaml is a test of promtool's own kind; each alert must be in it, firing and silent."""
    told = yaml.safe_load((ROOT / "tests/docker/alerts.yaml").read_text())
    checks = [check for test in told["tests"] for check in test["alert_rule_test"]]
    for alert in (rule["alert"] for rule in ALERTS):
        assert {bool(check.get("exp_alerts")) for check in checks if check["alertname"] == alert} == {True, False}, (
            alert
        )
    done = subprocess.run(
        [promtool, "test", "rules", "alerts.yaml"],
        cwd=ROOT / "tests/docker",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
