"""What dashboards and alerts ask for, and what there is to ask: metric names and their labels, read as data."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from functools import cache

import yaml

from local.paths import ROOT
from serving.metrics import Families, Metrics

DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in (ROOT / "docker/grafana/dashboards").glob("*.json")}
RULES = {
    name: yaml.safe_load((ROOT / f"docker/prometheus/{name}.yaml").read_text()) for name in ("pipeline", "service")
}
TARGET = {"job", "instance"}
"""Labels that Prometheus gives to all that it scrapes."""
PROMETHEUS = {"up": TARGET, "ALERTS": {"alertname", "alertstate"}}
"""What Prometheus says itself, of its targets and of the rules."""
WORDS = {"and", "or", "unless", "by", "without", "on", "ignoring", "group_left", "group_right", "bool", "offset"}

Labels = dict[str, set[str]]
"""Metric name to the labels that it has."""


def panels() -> Iterator[tuple[str, str, str]]:
    """Dashboard, panel's title and query of each of its targets."""
    for name, dashboard in DASHBOARDS.items():
        for panel in dashboard["panels"]:
            for target in panel.get("targets", []):
                yield name, panel["title"], target["expr"]


def rules() -> Iterator[tuple[str, dict]]:
    """Group file and rule, recorded ones too."""
    for name, text in RULES.items():
        for group in text["groups"]:
            for rule in group["rules"]:
                yield name, rule


@cache
def exported() -> Labels:
    """Every metric that our code and Prometheus export, as Prometheus sees it."""
    return {**_of_service(), **_of_pipeline(), **PROMETHEUS, **_recorded()}


def asked(expression: str) -> set[str]:
    """Names of the metrics in a PromQL expression."""
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]", " ", _without_strings(expression))
    bare = re.sub(r"\b(?:by|without|on|ignoring)\s*\([^)]*\)", " ", bare)
    return {name for name in re.findall(r"[a-zA-Z_:][\w:]*(?!\w*\s*\()\b", bare) if name not in WORDS}


def labels_asked(expression: str) -> set[str]:
    """Names of the labels that it selects or groups by."""
    text = _without_strings(expression)
    matched = {name for inner in re.findall(r"\{([^}]*)\}", text) for name in re.findall(r"(\w+)\s*[=!]", inner)}
    grouped = {name.strip() for inner in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", text) for name in inner.split(",")}
    return {name for name in matched | grouped if name}


def _without_strings(expression: str) -> str:
    return re.sub(r'"[^"]*"', '""', expression)


def _of_service() -> Labels:
    families = Families()
    Metrics(families, "a_model", lambda: 0, lambda: 0)  # what has no model has no sample yet
    registry = families.registry
    found = {sample.name: {*sample.labels, *TARGET} for family in registry.collect() for sample in family.samples}
    for collector, names in registry._collector_to_names.items():  # those with further labels have no sample yet
        for name in names:
            found.setdefault(name, set(TARGET)).update(getattr(collector, "_labelnames", ()))
    return found


def _of_pipeline() -> Labels:
    """Names and labels of ``gauges.add("name", …, **labels)`` and of gauge families, in the plugins' code."""
    found: Labels = {}
    for path in (ROOT / "plugins/airloop").glob("metrics*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                name = str(node.args[0].value)
                if name.startswith("airloop_"):
                    found.setdefault(name, set(TARGET)).update(_labels_of(node))
    return found


def _labels_of(call: ast.Call) -> set[str]:
    named = {word.arg for word in call.keywords if word.arg and word.arg != "labels"}
    spread = (
        {"model", "dag_id", "task_id", "interval", "run", "verdict"}
        if any(word.arg is None for word in call.keywords)
        else set()
    )
    told = [word.value for word in call.keywords if word.arg == "labels"]
    return (
        named
        | spread
        | {str(item.value) for value in told for item in ast.walk(value) if isinstance(item, ast.Constant)}
    )


def _recorded() -> Labels:
    return {rule["record"]: labels_asked(rule["expr"]) for _, rule in rules() if "record" in rule}
