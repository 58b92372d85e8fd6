"""The databases of one machine: Airflow's, MLflow's and that of searches, copied while they are used, and put back."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from local import postgres, processes
from local.errors import LocalError
from local.paths import ROOT
from local.progress import waiting

START_SECONDS = 120
"""A first start takes some five; a busy disk is slower."""


def copy(home: Path, folder: Path) -> list[Path]:
    """Write a consistent copy of each database to ``folder``; returns the files.

    Raises:
        LocalError: the home's databases are those of another version, or cannot be read.
    """
    postgres.check(home)
    if not postgres.data(home).exists():
        return []
    with _running(home):
        return postgres.dump(home, folder)


def put_back(home: Path, folder: Path) -> None:
    """Put the copies of ``folder`` in place of the home's databases.

    Raises:
        LocalError: a copy cannot be read.
    """
    if any(folder.glob("*.dump")):
        with _running(home):
            postgres.restore(home, folder)


def delete(home: Path) -> None:
    """Delete the home's databases."""
    postgres.stop(home)
    shutil.rmtree(postgres.data(home).parent, ignore_errors=True)


@contextmanager
def _running(home: Path) -> Iterator[None]:
    """The home's PostgreSQL runs, as it does already or for this only."""
    if postgres.server(home):
        yield
        return
    log = home / "logs" / "postgres.log"
    log.parent.mkdir(exist_ok=True)
    with log.open("ab") as words:
        command = [sys.executable, "-m", "local.postgres_server", str(home)]
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, processes.MARK: str(home)}, stdout=words, stderr=words
        )
    try:
        _wait(home, process, log)
        yield
    finally:
        postgres.stop(home)
        process.terminate()
        process.wait()


def _wait(home: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in waiting(lambda: "PostgreSQL", START_SECONDS, 0.1):
        if postgres.answers(home, process.pid):
            return
        if process.poll() is not None:
            break
    last = log.read_text(encoding="utf-8", errors="replace").splitlines()[-3:]
    raise LocalError(f"PostgreSQL did not start; its log {log} ends with: {' '.join(last)}")
