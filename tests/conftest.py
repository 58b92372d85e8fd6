"""All tests find this environment's programs (python, spark-submit, airflow) and the Java that `make setup` chose."""

from __future__ import annotations

import atexit
import json
import logging
import os
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from local import env, leaks
from local.paths import ROOT, STAMP
from tasks.core import network
from tasks.settings.environment import default_model
from tests import skips, story

# What the developer's shell has for other work reaches no test, and a proxy no test's server.
for name in leaks.foreign(os.environ):
    del os.environ[name]
for name in (
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONPYCACHEPREFIX",
):  # most shells have neither, and it makes a difference to DVC
    os.environ.pop(name, None)
os.environ |= {"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", **network.settings(os.environ)}
os.environ["AIRLOOP_MODEL"] = default_model(ROOT)  # whatever the developer's run.yaml is about

os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
os.environ["SPARK_HOME"] = str(
    env.spark_home()
)  # as `airloop shell` has it: Spark's own search fails in a folder with a space
if STAMP.exists() and (java := json.loads(STAMP.read_text()).get("java_home")):
    os.environ.setdefault("JAVA_HOME", java)


@pytest.hookimpl(trylast=True)  # after xdist has ended the workers
def pytest_sessionfinish(session: pytest.Session) -> None:
    """End what workers could not."""
    if session.config.getoption("numprocesses", None):
        from tests.side_by_side import end_leftovers

        end_leftovers(session.config._tmp_path_factory.getbasetemp())  # no public way to it without a test


def pytest_configure(config: pytest.Config) -> None:
    """What ends a story at its first failure."""
    config.pluginmanager.register(story)


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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A skip needs a reason that the table knows."""
    report = yield
    skips.judge(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same of a whole file."""
    report = yield
    skips.judge(report)
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was skipped, why, and what runs it."""
    if rows := skips.table(terminalreporter.getreports("skipped")):
        terminalreporter.section("skipped: number, what runs it, reason")
        terminalreporter.write_line("\n".join(rows))


@atexit.register  # before it pytest's streams are still open
def _forget_closed_streams() -> None:
    """Airflow sets a log handler on the stream that pytest captured; py4j's connections log to it when they are freed, at the very end.

    So pytest's closing line is the last one, and a crash after it is seen.
    """
    for logger in (logging.root, *logging.root.manager.loggerDict.values()):
        for handler in getattr(logger, "handlers", [])[:]:
            if getattr(getattr(handler, "stream", None), "closed", False):
                logger.removeHandler(handler)
