"""A real PostgreSQL, as `up` starts it, for a test."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import sqlalchemy as sa

from local import paths, postgres, runtime
from tests.waiting import until

COMMAND = [sys.executable, "-m", "local.postgres_server"]


@contextlib.contextmanager
def started(home: Path, **env: str) -> Iterator[subprocess.Popen]:
    """The server of ``home``, well; killed at the end, with all it started, as when a machine loses its power."""
    process = launched(home, **env)
    try:
        until(lambda: process.poll() is not None or postgres.answers(home, process.pid), "PostgreSQL")
        assert process.poll() is None, "it ended"
        yield process
    finally:
        kill(process)


def launched(home: Path, **env: str) -> subprocess.Popen:
    return subprocess.Popen([*COMMAND, str(home)], cwd=paths.ROOT, env={**os.environ, **env}, stderr=subprocess.PIPE)


def kill(process: subprocess.Popen) -> None:
    with contextlib.suppress(psutil.Error):
        everybody = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        for one in everybody:
            with contextlib.suppress(psutil.Error):
                one.kill()
        psutil.wait_procs(everybody, timeout=30)
    process.wait()
    process.stderr.close()


def forget(home: Path) -> None:
    runtime.delete(home)


def run(home: Path, *statements: str, database: str = "studies") -> list[tuple]:
    """What the last of the statements finds."""
    engine = sa.create_engine(postgres.url(home, database), poolclass=sa.NullPool)
    with engine.begin() as session:
        for statement in statements:
            found = session.execute(sa.text(statement))
        return [tuple(row) for row in found] if found.returns_rows else []
