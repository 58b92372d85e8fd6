"""What tests/conftest.py does to the end of a run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.airflow_home import ROOT


def run(folder: Path, test: str) -> subprocess.CompletedProcess[str]:
    """pytest on one test, in a process that has imported tests/conftest.py."""
    (folder / "conftest.py").write_text("import tests.conftest\n")
    (folder / "test_it.py").write_text(test)
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), str(folder)]
    return subprocess.run(
        argv, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )


def test_a_crash_at_the_interpreters_end_is_seen(tmp_path: Path) -> None:
    test = f"import atexit, os\n\n\ndef test_it():\n    atexit.register(lambda: os.kill(os.getpid(), {int(signal.SIGSEGV)}))\n"
    done = run(tmp_path, test)
    assert "1 passed" in done.stdout
    assert done.returncode == -signal.SIGSEGV


LATE = """
import logging, sys


class Late:
    def __del__(self):
        logging.getLogger("late").warning("freed")


def test_it():
    logging.getLogger().addHandler(logging.StreamHandler(sys.stdout))
    sys.modules["late"] = Late()
"""


def test_pytests_closing_line_is_the_last_one(tmp_path: Path) -> None:
    """An object that logs when it is freed, to a stream that has gone with its test, as py4j's connections do."""
    done = run(tmp_path, LATE)
    assert done.returncode == 0
    assert "1 passed" in done.stdout.splitlines()[-1]
    assert "Logging error" not in done.stderr
