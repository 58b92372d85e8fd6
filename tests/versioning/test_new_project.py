"""A project in folders of any name, or a sentence that says which name DVC cannot work in."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tasks.core.errors import ConfigError
from tasks.core.urls import url_of
from tasks.versioning.new_project import initialise
from tasks.versioning.project import Project
from tests.names import NAMES
from tests.versioning.conftest import lay


@pytest.mark.parametrize("name", ["all", "percent", "escape", "glob", "backslash", "nfd", "dollar"])
def test_a_project_cache_and_remote_in_folders_of_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    shared = tmp_path / NAMES[name]
    first, second = shared / "one", shared / "two"
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    lay(first, shared)
    monkeypatch.chdir(first)
    project = Project(first)
    project.reproduce(["part@a"])
    project.push(["part@a"])
    project.close()

    lay(second, shared)
    initialise(second, cache=shared / "cache2", remote=url_of(shared / "remote"), site_cache=shared / "site2")
    (second / "dvc.lock").write_bytes((first / "dvc.lock").read_bytes())
    monkeypatch.chdir(second)
    project = Project(second)
    project.materialise(["part@a"])
    project.close()
    assert (second / "parts/a").read_text() == "aa" and not (second / "ran").exists()
    assert {path.name for path in shared.iterdir()} == {"one", "two", "cache", "cache2", "remote", "site", "site2"}
    assert [path.name for path in tmp_path.iterdir()] == [shared.name]


@pytest.mark.parametrize("name", ["%(home)s", "a{b}", "a$PATH", "'''and\"\"\""])
def test_a_name_that_dvc_cannot_work_in_is_one_sentence(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="AIRLOOP_HOME"):
        lay(tmp_path / "one", tmp_path / name)
