"""All tests find this environment's programs (python, spark-submit, airflow) and the Java that `make setup` chose."""

from __future__ import annotations

import atexit
import json
import os
import sys
from pathlib import Path

import pytest

from local.paths import STAMP

os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
if STAMP.exists() and (java := json.loads(STAMP.read_text()).get("java_home")):
    os.environ.setdefault("JAVA_HOME", java)


_status = [0]


def _end() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(_status[0])


# pytest's closing line is the last one: at the interpreter's own end DuckDB's and Spark's bindings would write fifty lines
# about objects that are still alive. Registered first, so that it comes after what others registered.
atexit.register(_end)


@pytest.hookimpl(trylast=True)  # after xdist has ended the workers
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Keep pytest's exit code for ``_end``; end what workers could not."""
    _status[0] = int(exitstatus)
    if session.config.getoption("numprocesses", None):
        from tests.side_by_side import end_leftovers

        end_leftovers(session.config._tmp_path_factory.getbasetemp())  # no public way to it without a test


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Where there are several workers."""
    from tests.side_by_side import Files

    return Files(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """One worker among several does the longest first; a run by itself keeps the order of the files."""
    if hasattr(config, "workerinput"):
        from tests.side_by_side import longest_first

        items.sort(key=longest_first)
