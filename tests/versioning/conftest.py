"""A project of DVC with two parts and a whole, and another machine that has seen nothing of it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tasks.storage import lists
from tasks.versioning.new_project import initialise
from tasks.versioning.project import Project

PIPELINE = """
stages:
  part:
    foreach: [a, b]
    do:
      cmd: python make.py ${item}
      deps: [make.py, "in/${item}"]
      outs: ["parts/${item}"]
  whole:
    cmd: python whole.py
    deps: [parts, whole.py]
    outs: [whole]
"""
MAKE = """
import pathlib, sys
with open('ran', 'a') as log: log.write(sys.argv[1])
pathlib.Path('parts').mkdir(exist_ok=True)
pathlib.Path('parts', sys.argv[1]).write_text(pathlib.Path('in', sys.argv[1]).read_text() * 2)
"""
WHOLE = "import pathlib; pathlib.Path('whole').write_text(''.join(p.read_text() for p in sorted(pathlib.Path('parts').iterdir())))"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "one"
    lay(root, tmp_path)
    monkeypatch.chdir(root)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return root


def lay(root: Path, shared: Path) -> None:
    (root / "in").mkdir(parents=True)
    (root / "dvc.yaml").write_text(PIPELINE)
    (root / "make.py").write_text(MAKE)
    (root / "whole.py").write_text(WHOLE)
    for name in "ab":
        (root / "in" / name).write_text(name)
    initialise(root, cache=shared / "cache", remote=str(shared / "remote"), site_cache=shared / "site")


def listed(root: Path, *names: str) -> dict[str, str]:
    """Path to digest of files of the workspace."""
    return {name: lists.digest((root / name).read_bytes()) for name in names}


@pytest.fixture
def elsewhere(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, dict[str, str]]:
    """Another machine, which has seen nothing, and what the first one has made and pushed."""
    project = Project(root)
    project.reproduce(["part@a", "part@b"])
    project.push(["part@a", "part@b"])
    project.close()
    other = tmp_path / "two"
    lay(other, tmp_path / "elsewhere")
    initialise(
        other, cache=tmp_path / "elsewhere/cache", remote=str(tmp_path / "remote"), site_cache=tmp_path / "site2"
    )
    monkeypatch.chdir(other)
    return other, listed(root, "parts/a", "parts/b")
