"""How `make test` shares its files among workers."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import psutil

from local import processes
from tests.airflow_home import ROOT
from tests.side_by_side import STACKS, end_leftovers
from tests.waiting import until


def test_every_stack_is_among_those_that_follow_one_another() -> None:
    e2e = re.compile(r"^(@|pytestmark = ).*pytest\.mark\.e2e|^    pytest\.mark\.e2e,", re.MULTILINE)
    files = [path for path in sorted((ROOT / "tests").rglob("test_*.py")) if e2e.search(path.read_text())]
    names = [path.relative_to(ROOT).as_posix() for path in files]
    assert "tests/e2e/test_loop.py" in names
    apart = [name for name in names if not name.startswith(STACKS)]
    assert not apart, f"{', '.join(apart)} starts a stack: add it to STACKS in tests/side_by_side.py"


def test_what_an_interrupted_worker_started_is_ended_and_nothing_else(tmp_path: Path) -> None:
    homes = {"ours": tmp_path / "gw0/e2e/home", "theirs": tmp_path.with_name(f"{tmp_path.name}-other") / "home"}
    started = {
        name: subprocess.Popen(["sleep", "60"], env={**os.environ, processes.MARK: str(home)})
        for name, home in homes.items()
    }
    # Linux shows an empty environment of a process for a moment after it started.
    for name, process in started.items():
        probe = psutil.Process(process.pid)
        until(lambda probe=probe: processes.MARK in probe.environ(), f"the environment of {name}")
    try:
        assert end_leftovers(tmp_path) == 1
        assert not psutil.pid_exists(started["ours"].pid)
        assert started["theirs"].poll() is None
    finally:
        started["theirs"].kill()
        started["theirs"].wait()
