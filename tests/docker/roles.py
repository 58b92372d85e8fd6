"""docker/images.toml, the Dockerfiles, the locks and the code, as data: what each image has and what it needs."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from local.paths import ROOT

ROLES = tomllib.loads((ROOT / "docker/images.toml").read_text())
OURS = {"models", "tasks", "serving", "airloop"}
"""Top-level packages of this checkout; plugins/ is on the path where Airflow runs."""

Step = tuple[str, str]
"""An instruction of a Dockerfile: its word, and the rest with continued lines joined."""


@cache
def stages(role: str) -> dict[str, list[Step]]:
    """The build stages of a role's Dockerfile by name, in order, with what stands before the first under ""."""
    lines = (ROOT / f"docker/{role}.Dockerfile").read_text().splitlines()
    joined = "\n".join(line for line in lines if not line.startswith("#")).replace("\\\n", " ")
    found: dict[str, list[Step]] = {"": []}
    name = ""
    for line in filter(None, joined.splitlines()):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            name = re.split(r"\s+AS\s+", rest)[1]
            found[name] = []
        found[name].append((word, " ".join(rest.split())))
    return found


def steps(role: str) -> list[Step]:
    """All instructions of a role's Dockerfile."""
    return [step for stage in stages(role).values() for step in stage]


def named(file: str) -> set[str]:
    """Distributions that a file of requirements names, one a line, without versions, options and comments."""
    lines = (ROOT / "requirements" / file).read_text().splitlines()
    return {found[0].lower() for line in lines if (found := re.match(r"[A-Za-z0-9][\w.-]*", line))}


def pins(file: str) -> dict[str, str]:
    """Distribution to version in a lock."""
    text = (ROOT / "requirements" / file).read_text()
    return dict(re.findall(r"^([a-z0-9][a-z0-9-]*)==([^ ;\\]+)", text, re.MULTILINE))


@cache
def needs(role: str) -> frozenset[str]:
    """Dotted names that a role's code imports from outside this checkout, at any depth of its own code."""
    seen = {file for name in ROLES[role].get("not_run", ()) for path in ROOT.glob(name) for file in _files(path)}
    found: set[str] = set()
    todo = [file for name in ROLES[role]["runs"] for file in _files(ROOT / name)]
    while todo:
        file = todo.pop()
        if file in seen:
            continue
        seen.add(file)
        for name in _imports(file):
            if name.split(".")[0] in OURS:
                todo += _ours(name)
            elif name.split(".")[0] not in sys.stdlib_module_names:
                found.add(name)
    return frozenset(found)


@cache
def owners() -> dict[str, set[str]]:
    """Dotted module name to the installed distributions that hold its file."""
    found: dict[str, set[str]] = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.name.lower().replace("_", "-")
        # Its text, not distribution.files: that takes a minute for 100,000 files.
        for file in re.findall(r"^([^.,][^,]*\.(?:py|so)),", distribution.read_text("RECORD") or "", re.MULTILINE):
            folder, _, base = file.rpartition("/")
            module = folder if base == "__init__.py" else f"{folder}/{base.partition('.')[0]}".lstrip("/")
            found.setdefault(module.replace("/", "."), set()).add(name)
    return found


def held_by(module: str) -> set[str]:
    """Distributions that hold ``module``, or the longest part of its name that is a file; empty when none is installed."""
    parts = module.split(".")
    names = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((owners()[name] for name in names if name in owners()), set())


def _files(path: Path) -> list[Path]:
    return sorted(path.rglob("*.py")) if path.is_dir() else [path]


def _imports(file: Path) -> Iterator[str]:
    """What a file imports, anywhere in it; a name from a package may be a module of it, so both are said."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def _ours(name: str) -> list[Path]:
    """Files of this checkout that importing ``name`` runs, its packages among them."""
    parts = name.split(".")
    paths = [Path(*parts[:length]) for length in range(1, len(parts) + 1)]
    candidates = [
        root / file
        for path in paths
        for root in (ROOT, ROOT / "plugins")
        for file in (path.with_suffix(".py"), path / "__init__.py")
    ]
    return [candidate for candidate in candidates if candidate.exists()]
