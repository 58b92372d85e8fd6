"""dvc.yaml against the code: a stage that changes is run again, and every setting belongs to somebody."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks import spec, spec_file
from tasks.settings import policy, settings_files

ROOT = Path(__file__).parents[2]
PLUMBING = {
    "tasks/__init__.py",
    "tasks/core/__init__.py",
    "tasks/engines/__init__.py",
    "tasks/intervals/__init__.py",
    "tasks/landing/__init__.py",
    "tasks/modelling/__init__.py",
    "tasks/registry/__init__.py",
    "tasks/settings/__init__.py",
    "tasks/storage/__init__.py",
    "models/__init__.py",
    "models/flights/__init__.py",
    "models/flights/model.py",
    "models/flights/params.py",
    "models/flights/reading/__init__.py",
    "tasks/storage/artefacts.py",
    "tasks/core/disk.py",
    "tasks/settings/environment.py",
    "tasks/core/errors.py",
    "tasks/core/frozen.py",
    "tasks/settings/data_params.py",
    "tasks/settings/gate_params.py",
    "tasks/settings/monitor_params.py",
    "tasks/settings/params.py",
    "tasks/settings/pod_params.py",
    "tasks/settings/search_params.py",
    "tasks/settings/settings_files.py",
    "tasks/settings/training_params.py",
    "tasks/settings/value_types.py",
    "tasks/core/results.py",
    "tasks/registry/ledger.py",
    "tasks/landing/landing_zone.py",
    "tasks/registry/mlflow_server.py",
    "tasks/running/__init__.py",
    "tasks/running/guard.py",
    "tasks/running/lease.py",
    "tasks/running/variables.py",
    "tasks/core/urls.py",
    "tasks/spec.py",
    "tasks/spec_check.py",
    "tasks/spec_file.py",
}
"""Carries data or messages but shapes no output; a change here need not run every stage again."""
PROPERTIES = {"features": ("features",), "sources": ("quarantine",), "target": ("calendar",)}
"""What is made of a section's fields."""
DATA = {
    field: section for section, fields in spec_file.FIELDS.items() for field in (*fields, *PROPERTIES.get(section, ()))
}
"""Field of the declaration that is data to its section in spec.json."""
FIELDS = {field.name for field in dataclasses.fields(spec.ModelSpec)} | {"calendar", "features", "quarantine"}


def stages() -> dict[str, dict[str, Any]]:
    """Stage name to its definition, foreach unwrapped."""
    found = yaml.safe_load((ROOT / "dvc.yaml").read_text().replace("${model}", "flights"))["stages"]
    return {name: stage.get("do", stage) for name, stage in found.items()}


def imports(path: Path) -> set[Path]:
    """Files of tasks/ and models/ that ``path`` imports, at any depth of its own code, itself included."""
    seen: set[Path] = set()
    todo = [path]
    while todo:
        file = todo.pop()
        if file in seen or file.relative_to(ROOT).as_posix() in PLUMBING:
            continue
        seen.add(file)
        tree = ast.parse(file.read_text())
        todo += [*modules(tree), *(part for field in asked(tree) for part in MODEL.get(field, ()))]
    return seen


def modules(tree: ast.AST) -> list[Path]:
    """Files of this checkout that a piece of code imports, at once or when it is called (``deferred``)."""
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and ":" in node.value:
            names.append(node.value.partition(":")[0])
    wanted = (ROOT / (name.replace(".", "/") + ".py") for name in names if name.startswith(("models", "tasks")))
    return [path for path in wanted if path.exists()]


def asked(tree: ast.AST) -> set[str]:
    """Fields of the spec that a piece of code uses, where it uses the spec."""
    names = {"spec.current()"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            names |= {ast.unparse(target) for target, value in pairs(node) if ast.unparse(value) == "spec.current()"}
        elif (
            isinstance(node, ast.arg | ast.AnnAssign)
            and node.annotation
            and "ModelSpec" in ast.unparse(node.annotation)
        ):
            names.add(node.arg if isinstance(node, ast.arg) else ast.unparse(node.target))
    names |= {f"self.{name}" for name in names} | {f"self._{name}" for name in names}
    found = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute))
    return {node.attr for node in found if ast.unparse(node.value) in names} & FIELDS


def pairs(node: ast.Assign) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Each target of an assignment with its value."""
    for target in node.targets:
        if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
            yield from zip(target.elts, node.value.elts, strict=True)
        else:
            yield target, node.value


def parts() -> dict[str, list[Path]]:
    """Field of the flights' spec to the files that it is made of."""
    tree = ast.parse((ROOT / "models/flights/model.py").read_text())
    origin: dict[str, Path] = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module:
            for path in modules(node):
                origin |= {
                    alias.name: path for alias in node.names if path.stem in {alias.name, node.module.split(".")[-1]}
                }
    (made,) = (node.value for node in tree.body if isinstance(node, ast.Assign))
    assert isinstance(made, ast.Call)
    found: dict[str, list[Path]] = {}
    for keyword in made.keywords:
        if keyword.arg in DATA:
            continue  # a stage depends on its section in spec.json, whatever file it is written in
        used = {node.id for node in ast.walk(keyword.value) if isinstance(node, ast.Name)} & set(origin)
        found[str(keyword.arg)] = [*(origin[name] for name in sorted(used)), *modules(keyword.value)]
    return found


MODEL = parts()


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
    listed = {dep for dep in stage["deps"] if str(dep).startswith(("models/", "tasks/"))}
    surplus = {dep for dep in listed - needed if dep.endswith(".py")}
    assert not surplus, f"dvc.yaml, stage {name}: {sorted(surplus)} is not imported; remove it from its deps"


def read_sections(path: Path) -> set[str]:
    """Sections of the declaration that the code of ``path`` uses, at any depth."""
    files = [file for file in imports(path) if file.relative_to(ROOT).parts[0] == "tasks"]
    judging = policy.DECLARED if ROOT / "tasks/settings/policy.py" in files else ()
    return {*judging} | {DATA[field] for file in files for field in asked(ast.parse(file.read_text())) if field in DATA}


@pytest.mark.parametrize("name", stages())
def test_a_stage_depends_on_the_sections_of_the_declaration_that_it_reads(name: str) -> None:
    stage = stages()[name]
    listed = {setting for params in stage.get("params", []) for setting in params.get("models/flights/spec.json", ())}
    assert listed == {f"digests.{section}" for section in read_sections(ROOT / script(stage))}, (
        f"dvc.yaml, stage {name}"
    )


@pytest.mark.parametrize("name", stages())
def test_a_stage_says_where_it_likes_to_run(name: str) -> None:
    meta = stages()[name].get("meta", {})
    missing = {"engine", "cpu", "memory", "timeout_minutes"} - set(meta)
    assert not missing, f"dvc.yaml, stage {name}: say {sorted(missing)} in its meta"


def used() -> set[tuple[str, str]]:
    """Sections that stages depend on, with the file that dvc.yaml names for them."""
    files = [each for stage in stages().values() for params in stage.get("params", []) for each in params.items()]
    files = [(file, settings) for file, settings in files if not file.endswith("spec.json")]
    return {(str(setting).split(".")[0], file) for file, settings in files for setting in settings}


def test_every_section_of_the_settings_belongs_to_a_stage() -> None:
    sections = {*settings_files.SHARED_SECTIONS, *settings_files.MODEL_SECTIONS}
    others = {"monitor", "feed", "span", "pods", "default_model"}
    # read by the monitor, by whoever opens a run or writes run.yaml, by the pod operator
    assert sections - {section for section, _ in used()} - others == set(), (
        "add the section to the params of the stage that reads it in dvc.yaml"
    )


@pytest.mark.parametrize(("section", "file"), sorted(used()))
def test_a_stage_depends_on_a_section_in_the_file_that_it_is_in(section: str, file: str) -> None:
    assert file == settings_files.file_of(section, "flights")
    assert section in settings_files.read(ROOT, "flights") | settings_files.rendered(ROOT, "flights")


def test_no_date_that_shapes_an_output_is_written_in_code() -> None:
    """A date is a setting, and so a dependency of the stages that use it; the epoch is a unit."""
    found = []
    for path in sorted([*(ROOT / "models").rglob("*.py"), *(ROOT / "tasks").rglob("*.py")]):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in {"date", "datetime"} and node.args:
                year = node.args[0]
                if isinstance(year, ast.Constant) and year.value != 1970:
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert found == [], "move it to the model's params.yaml, and its section to the params of the stages in dvc.yaml"
