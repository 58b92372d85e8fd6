"""`python -m local.postgres_server HOME` becomes the home's PostgreSQL, which it makes at the first start.

supervisord runs it. It has one process id from beginning to end, so that supervisord's signals reach PostgreSQL itself.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil

from local import postgres, postgres_programs, runtime, unprivileged
from local.errors import LocalError
from local.progress import waiting

SETTINGS = {
    "listen_addresses": "",  # the socket only
    "unix_socket_permissions": "0700",
    # At most 15 connections for each of Airflow's four parts, as many asynchronous ones for two of them, 15 for MLflow, one for
    # each of four trainings that search, three kept for the administrator, and some for commands. A dozen is usual.
    "max_connections": 125,
    "shared_buffers": "64MB",  # a year of the example fits
    "max_wal_size": "256MB",
    "min_wal_size": "32MB",
    # No replica and no query worth several processes: fewer processes, and nothing in /dev/shm, which is small in containers.
    "wal_level": "minimal",
    "max_wal_senders": 0,
    "max_logical_replication_workers": 0,
    "max_parallel_workers_per_gather": 0,
    "max_parallel_maintenance_workers": 0,
    "io_method": "sync",
    "huge_pages": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    "log_line_prefix": "%m [%p] %d ",
}
"""Beside PostgreSQL's own defaults; fsync and synchronous_commit stay on."""
LEFTOVER_SECONDS = 60
"""Longest wait for what a killed server left; then PostgreSQL says what is in its way."""


def command(home: Path, programs: Path, sockets: Path) -> tuple[str, ...]:
    """The server with its settings."""
    settings = {**SETTINGS, "unix_socket_directories": sockets, "port": postgres.PORT}
    words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    return (str(programs / "postgres"), "-D", str(postgres.data(home)), *words)


def main() -> None:
    """Prepares, then becomes the server; ends with a sentence where that fails."""
    home = Path(sys.argv[1])
    try:
        # These are named after the user who asks, which another line changes.
        sockets, programs = runtime.make(home), postgres_programs.folder(home)
        postgres.data(home).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        unprivileged.become_owner(postgres.data(home))
        _initialise(home, programs)
        for lock in (postgres.data(home) / "postmaster.pid", sockets / f".s.PGSQL.{postgres.PORT}.lock"):
            _disown(home, lock)
        _wait_for_leftovers(home)
    except LocalError as error:
        sys.exit(str(error))
    program = command(home, programs, sockets)
    os.execve(program[0], program, postgres.without_libpq(os.environ))  # noqa: S606 - a shell would only stay between supervisord's signals and the server


def _initialise(home: Path, programs: Path) -> None:
    """Makes the data folder, whole or not at all, the same in every locale."""
    data = postgres.data(home)
    if data.exists():
        return
    begun = data.with_name("begun")
    shutil.rmtree(begun, ignore_errors=True)
    words = [
        *(str(programs / "initdb"), "-D", str(begun), "--username", postgres.USER),
        *("--auth-local=trust", "--auth-host=reject"),  # the socket's folder is its user's only
        *("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
    ]
    done = subprocess.run(words, env=postgres.without_libpq(os.environ), capture_output=True, text=True, check=False)
    if done.returncode:
        raise LocalError(f"The database's folder {data} cannot be made: {(done.stdout + done.stderr).strip()[-1000:]}")
    begun.rename(data)


def _disown(home: Path, lock: Path) -> None:
    """Corrects a lock left by a server that was killed, if its process id is another program's by now.

    PostgreSQL sees by itself that a process is gone, but takes any live one for a server. The file is kept and names this process
    instead, which PostgreSQL knows to be no other server: its further lines are how it finds processes that a killed server left.
    """
    try:
        pid, *rest = lock.read_text(encoding="utf-8").splitlines(keepends=True)
        taken = psutil.pid_exists(int(pid)) and not postgres.is_server(home, int(pid))
    except (OSError, ValueError):
        return
    if taken:
        lock.write_text("".join([f"{os.getpid()}\n", *rest]), encoding="utf-8")


def _wait_for_leftovers(home: Path) -> None:
    """Wait until the processes of a server that was killed are gone.

    PostgreSQL refuses to start beside them. They end when they next look whether their server lives: at once, but on a busy machine after
    more seconds than supervisord tries again for.
    """
    if postgres.server(home):
        return  # it is at work, and PostgreSQL says so
    for _ in waiting(lambda: "processes that a killed server left", LEFTOVER_SECONDS, 0.1):
        if not _leftovers(postgres.data(home)):
            return


def _leftovers(data: Path) -> bool:
    """Whether a process of PostgreSQL works in this folder, as all of a server's do."""
    found = (process.info for process in psutil.process_iter(["name", "cwd"]))
    return any(info["name"] == "postgres" and info["cwd"] == str(data) for info in found)


if __name__ == "__main__":
    main()
