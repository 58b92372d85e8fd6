"""docs/runbook.md has a section for each alert, and a kind for each file that refuses something."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import yaml

from local.paths import ROOT

RUNBOOK = (ROOT / "docs/runbook.md").read_text()
HEADINGS = set(re.findall(r"^### (.+)$", RUNBOOK, re.M))
SAID_BY = [name for names in re.findall(r"^From (.*?\.)(?=\s)", RUNBOOK, re.M | re.S) for name in re.findall(r"`([^`]+(?:\.py|/))`", names)]
OURS = ("models", "tasks", "plugins", "serving", "local")
ERRORS = re.compile(r"(AirloopError|\w+Error|Skip)$")
FOREIGN = {
    "AssertionError", "FileNotFoundError", "HTTPStatusError", "KeyError", "NotImplementedError", "OSError", "RuntimeError", "TypeError",
    "ValueError", "StopIteration", "TimeoutError",
}  # fmt: skip
"""Errors of Python's own: they are caught, or are bugs and no refusals."""


def alerts() -> set[str]:
    names = set()
    for file in (*(ROOT / "docker/prometheus").glob("*.yaml"), *(ROOT / "kubernetes").rglob("*.yaml")):
        names |= {str(rule["alert"]) for document in yaml.safe_load_all(file.read_text()) for rule in rules(document) if "alert" in rule}
    return names


def rules(document: object) -> list[dict[str, object]]:
    """Of a file of Prometheus' own, or a PrometheusRule."""
    body = document if isinstance(document, dict) else {}
    groups = body.get("groups") or (body.get("spec") or {}).get("groups") or []
    return [rule for group in groups if isinstance(group, dict) for rule in group.get("rules", [])]


def refusing(root: Path) -> set[str]:
    """Files with a raise of one of the errors that refuse."""
    found = set()
    for file in (path for folder in OURS for path in sorted((root / folder).rglob("*.py"))):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                name = ast.unparse(node.exc.func).rpartition(".")[2]
                if ERRORS.match(name) and name not in FOREIGN:
                    found.add(file.relative_to(root).as_posix())
    return found


def test_each_alert_has_a_section() -> None:
    known = alerts()
    assert len(known) >= 16
    assert {heading for heading in HEADINGS if heading.startswith("Airloop")} == known


def test_each_file_that_refuses_something_stands_under_one_kind() -> None:
    """By its name, or by its folder's where a whole folder says one kind of thing."""
    folders = tuple(name for name in SAID_BY if name.endswith("/"))
    lost = [name for name in sorted(refusing(ROOT) - set(SAID_BY)) if not name.startswith(folders)]
    assert lost == [], "name the file in docs/runbook.md, under the kind of refusal that it is"
    assert [name for name in SAID_BY if SAID_BY.count(name) > 1] == []
    assert [name for name in SAID_BY if name.endswith(".py") and not (ROOT / name).exists()] == []
