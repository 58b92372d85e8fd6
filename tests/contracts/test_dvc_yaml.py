"""dvc.yaml against the code: a stage that changes is run again, and every setting belongs to somebody."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PLUMBING = {
    "tasks/__init__.py",
    "tasks/common/__init__.py",
    "tasks/flights/__init__.py",
    "tasks/common/artefacts.py",
    "tasks/common/environment.py",
    "tasks/common/errors.py",
    "tasks/common/months.py",
    "tasks/common/params.py",
    "tasks/common/results.py",
    "tasks/common/ledger.py",
    "tasks/common/landing_zone.py",
    "tasks/common/tracking.py",
}
"""Carries data or messages but shapes no output; a change here need not run every stage again."""


def stages() -> dict[str, dict[str, Any]]:
    """Stage name to its definition, foreach unwrapped."""
    found = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    return {name: stage.get("do", stage) for name, stage in found.items()}


def imports(path: Path) -> set[Path]:
    """Files of tasks/ that ``path`` imports, at any depth of its own code, itself included."""
    seen: set[Path] = set()
    todo = [path]
    while todo:
        file = todo.pop()
        if file in seen or file.relative_to(ROOT).as_posix() in PLUMBING:
            continue
        seen.add(file)
        for node in ast.walk(ast.parse(file.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            candidates = (ROOT / (name.replace(".", "/") + ".py") for name in names if name.startswith("tasks"))
            todo += [candidate for candidate in candidates if candidate.exists()]
    return seen


def script(stage: dict[str, Any]) -> str:
    """The script that a stage's command runs."""
    words = stage["cmd"].split()
    assert words[0] == "python", f"start the command with `python`, a script path and its arguments: {stage['cmd']}"
    assert not words[1].startswith("-"), f"spark-submit takes a script path, no option: {stage['cmd']}"
    return str(words[1])


@pytest.mark.parametrize("name", stages())
def test_a_stage_depends_on_the_code_it_runs(name: str) -> None:
    stage = stages()[name]
    needed = {path.relative_to(ROOT).as_posix() for path in imports(ROOT / script(stage))}
    missing = {file for file in needed if not {file, *map(str, Path(file).parents)} & set(stage["deps"])}
    assert not missing, f"dvc.yaml, stage {name}: add {sorted(missing)} to its deps, or its result outlives its code"
    listed = {dep for dep in stage["deps"] if str(dep).startswith("tasks/")}
    surplus = {dep for dep in listed - needed if dep.endswith(".py")}
    assert not surplus, f"dvc.yaml, stage {name}: {sorted(surplus)} is not imported; remove it from its deps"


@pytest.mark.parametrize("name", stages())
def test_a_stage_says_where_it_likes_to_run(name: str) -> None:
    meta = stages()[name].get("meta", {})
    missing = {"engine", "cpu", "memory", "timeout_minutes"} - set(meta)
    assert not missing, f"dvc.yaml, stage {name}: say {sorted(missing)} in its meta"


def test_every_section_of_params_belongs_to_a_stage() -> None:
    sections = set(yaml.safe_load((ROOT / "params.yaml").read_text()))
    used = {str(p).split(".")[0] for stage in stages().values() for p in stage.get("params", [])}
    acts = {"monitor", "feed", "pods"}  # read by the monitor, by whoever opens a run, by the pod operator
    assert sections - used - acts == set(), "add the section to the params of the stage that reads it in dvc.yaml"


def test_no_stage_uses_a_section_that_is_not_there() -> None:
    sections = set(yaml.safe_load((ROOT / "params.yaml").read_text()))
    used = {str(p).split(".")[0] for stage in stages().values() for p in stage.get("params", [])}
    assert used <= sections
