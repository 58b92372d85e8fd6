"""`.ci/run` and the workflows: what is run for every change, and what every night."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from local.paths import ROOT

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.y*ml"))
MAKE = """#!/bin/sh
echo "make $*" >> "$LOG"
[ "$1" != "$FAILS" ]
"""


def ci(folder: Path, fails: str) -> tuple[int, list[str]]:
    """Exit code of .ci/run whose `make <fails>` fails, and what it asked make for."""
    for name in (".ci", "bin"):
        (folder / name).mkdir()
    shutil.copy(ROOT / ".ci/run", folder / ".ci/run")
    (folder / "bin/make").write_text(MAKE)
    (folder / "bin/make").chmod(0o755)
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environ = {**os.environ, "PATH": path, "LOG": str(folder / "log"), "FAILS": fails}
    done = subprocess.run(["bash", folder / ".ci/run"], env=environ, capture_output=True, check=False)
    return done.returncode, (folder / "log").read_text().splitlines()


@pytest.mark.parametrize(
    ("fails", "asked"),
    [
        ("nothing", ["make setup", "make lint", "make test"]),
        ("lint", ["make setup", "make lint"]),
        ("test", ["make setup", "make lint", "make test"]),
    ],
)
def test_it_lints_and_tests_and_fails_with_either(tmp_path: Path, fails: str, asked: list[str]) -> None:
    code, log = ci(tmp_path, fails)
    assert log == asked
    assert (code == 0) == (fails == "nothing")


def commands(workflow: Path) -> list[str]:
    """What a workflow runs."""
    jobs = yaml.safe_load(workflow.read_text())["jobs"].values()
    return [step["run"] for job in jobs for step in job["steps"] if "run" in step]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_has_few_rights_limits_and_pinned_actions(workflow: Path) -> None:
    said = yaml.safe_load(workflow.read_text())
    assert said["permissions"] == {"contents": "read"}
    assert all("timeout-minutes" in job for job in said["jobs"].values())
    used = [step["uses"] for job in said["jobs"].values() for step in job["steps"] if "uses" in step]
    assert used
    assert [name for name in used if not re.fullmatch(r"actions/[\w-]+@v\d+", name)] == [], "actions of the forge only"


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_what_a_workflow_asks_make_for_is_there(workflow: Path) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    asked = {name for line in commands(workflow) for name in re.findall(r"\bmake ([a-z-]+)", line)}
    assert asked
    assert asked <= targets
