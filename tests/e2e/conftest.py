"""A real stack for each file of end-to-end tests: Airflow, MLflow and the online service in a home and on ports of their own."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from local import paths
from local.airflow_api import Airflow
from tasks.settings import environment as tasks_environment

from .loop import Loop

SOURCE = os.environ.get("AIRLOOP_SOURCE")


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    """A started stack with nothing landed; stopped, and all of it deleted, at the end."""
    with started(tmp_path_factory.mktemp("e2e") / "home") as loop:
        yield loop


@contextlib.contextmanager
def started(home: Path, more: Mapping[str, str] | None = None) -> Iterator[Loop]:
    """A stack of its own at ``home``, with ``more`` in its environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("AIRLOOP_", "AIRFLOW"))]:
            patch.delenv(name)
        patch.setenv("AIRLOOP_HOME", str(home))
        for name, port in zip(("AIRFLOW", "MLFLOW", "ONLINE"), _free_ports(3), strict=True):
            patch.setenv(f"AIRLOOP_{name}_PORT", str(port))
        for name, value in {**_source(), **(more or {})}.items():
            patch.setenv(name, value)
        try:
            _airloop("up")
            from local.env import environment

            for name, value in environment().items():
                patch.setenv(name, value)
            tasks_environment.environment.cache_clear()
            yield Loop(Airflow(), tasks_environment.store(), home)
        finally:
            _keep_logs(home)
            _airloop("delete", "--yes")
            tasks_environment.environment.cache_clear()


def _source() -> dict[str, str]:
    """Where the example's data is, if somebody said so."""
    return {"AIRLOOP_SOURCE": SOURCE} if SOURCE else {}


def _airloop(*words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "local.cli", *words], cwd=paths.ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _keep_logs(home: Path) -> None:
    """Where AIRLOOP_TEST_LOGS names a folder (CI), the services' and tasks' logs outlive the stack."""
    if target := os.environ.get("AIRLOOP_TEST_LOGS"):
        for logs in (home / "logs", home / "airflow/logs"):
            if logs.exists():
                shutil.copytree(logs, Path(target) / home.parent.name / logs.relative_to(home), dirs_exist_ok=True)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
