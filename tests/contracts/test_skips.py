"""A skipped test is run by something, and a skip for a new reason is a failure."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.airflow_home import ROOT
from tests.skips import RUN_BY, run_by

CONFTEST = "from tests.conftest import pytest_make_collect_report, pytest_runtest_makereport, pytest_terminal_summary\n"


def pytest_says(folder: Path, *tests: str, **environ: str) -> str:
    """The end of pytest's output on a file for each of ``tests``, under the hooks of tests/conftest.py."""
    (folder / "conftest.py").write_text(CONFTEST)
    for number, test in enumerate(tests):
        (folder / f"test_{number}.py").write_text(f"import pytest\n\n{test}")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), str(folder)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environ}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


KNOWN = "there is no promtool here (Debian: apt-get install prometheus)"
WAYS = (
    "def test_it():\n    pytest.skip({!r})\n",
    "@pytest.mark.skip(reason={!r})\ndef test_it(): ...\n",
    "@pytest.fixture\ndef tool():\n    pytest.skip({!r})\n\n\ndef test_it(tool): ...\n",
    "pytest.skip({!r}, allow_module_level=True)\n",
)
"""In the test, by a mark, in a fixture, of a whole file."""


@pytest.mark.parametrize("way", WAYS, ids=["test", "mark", "fixture", "file"])
def test_a_new_reason_is_a_failure_however_it_is_said(tmp_path: Path, way: str) -> None:
    said = pytest_says(tmp_path, way.format("the moon is full"))
    assert "Skipped for a reason that tests/skips.py lacks: the moon is full" in said
    assert re.search(r"\b1 (failed|error)\b", said.splitlines()[-1])


def test_a_known_reason_is_in_the_table_with_what_runs_it(tmp_path: Path) -> None:
    said = pytest_says(tmp_path, *(way.format(KNOWN) for way in WAYS))
    assert re.search(rf"^ +4  nightly: tools +{re.escape(KNOWN)}$", said, re.MULTILINE)
    assert "4 skipped" in said.splitlines()[-1]


def test_where_everything_was_installed_nothing_may_be_skipped(tmp_path: Path) -> None:
    said = pytest_says(tmp_path, WAYS[0].format(KNOWN), AIRLOOP_TEST_ALL="1")
    assert "forbids it: there is no promtool here" in said
    assert "1 failed" in said


def test_an_expected_failure_is_no_skip(tmp_path: Path) -> None:
    assert "1 xfailed" in pytest_says(tmp_path, "@pytest.mark.xfail\ndef test_it():\n    assert 0\n")


@pytest.mark.parametrize("where", sorted(set(RUN_BY.values())))
def test_what_runs_a_skipped_test_is_there(where: str) -> None:
    name, _, jobs = where.partition(": ")
    (file,) = (ROOT / ".github/workflows").glob(f"{name}.y*ml")
    assert set(jobs.split(", ")) <= set(yaml.safe_load(file.read_text())["jobs"])


def test_every_reason_that_stands_in_the_tests_is_in_the_table() -> None:
    """Else it would be found only on a machine that lacks the tool."""
    sources = [path for path in (ROOT / "tests").rglob("*.py") if path.name != "test_skips.py"]
    reasons = {reason for path in sources for reason in reasons_in(ast.parse(path.read_text()))}
    assert len(reasons) > 8
    assert [reason for reason in reasons if run_by(reason) is None] == []


def reasons_in(tree: ast.AST) -> Iterator[str]:
    """Reasons that are written out in calls of ``skip`` and ``skipif``."""
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        if isinstance(call.func, ast.Attribute) and call.func.attr in {"skip", "skipif"}:
            said = [*call.args, *(keyword.value for keyword in call.keywords if keyword.arg == "reason")]
            yield from (arg.value for arg in said if isinstance(arg, ast.Constant) and isinstance(arg.value, str))
