"""Every command of the docs for Airflow is taken by the real `airflow`, with our DAGs in its database; no scheduler runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.airflow_home import ROOT, variables
from tests.docs import rules
from tests.docs.commands import written

pytestmark = pytest.mark.slow
COMMANDS = sorted(
    {one.text[one.text.index("airflow ") :] for one in written() if "airflow dags" in one.text or "airflow backfill" in one.text}
)
"""Also those that the docs have run in a container or a pod."""


def typed(command: str, home: Path) -> subprocess.CompletedProcess[str]:
    """What a shell says of a command, whose Airflow is at ``home``."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environ = {**os.environ, **variables(str(home)), "PATH": path}
    return subprocess.run(command, shell=True, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)  # noqa: S602 - it is the docs' text


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An Airflow that knows our DAGs."""
    home = tmp_path_factory.mktemp("airflow")
    for command in ("airflow db migrate", "airflow dags reserialize"):
        done = typed(command, home)
        assert done.returncode == 0, done.stderr[-3000:]
    return home


@pytest.mark.parametrize("command", COMMANDS)
def test_airflow_takes_it(command: str, made: Path, tmp_path: Path) -> None:
    """In a copy of its own, since a DAG may have one backfill at a time."""
    shutil.copytree(made, tmp_path / "airflow")
    done = typed(command, tmp_path / "airflow")
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]


def test_a_backfill_and_a_trigger_are_among_them() -> None:
    assert {tuple(command.split()[:3]) for command in COMMANDS} == {tuple(begins.split()) for begins in rules.STACK[1:]}
