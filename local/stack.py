"""`up`, `down` and `status`: every service of one machine, started, watched until it is well, and stopped without a trace."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from local import airflow_settings, checks, keys, processes, supervise
from local.env import environment, place
from local.errors import LocalError
from local.paths import ROOT, scripts
from local.place import Place
from local.progress import Lines
from local.services import Service, services

START_SECONDS = 300
"""25 s where nothing else runs, a minute on a busy laptop; past five something is wrong."""


def up() -> Place:
    """Starts what is not running and returns when every service is well; says so line by line.

    Raises:
        LocalError: a check failed, or a service did not get well; then nothing is left running.
    """
    where = place()
    programs = services(where)
    env = environment()
    config = supervise.configuration(where.home, programs, _digest(env))
    if running(where.home) and supervise.runs(where.home, config):
        _resume(where, programs)
        return where
    _end_all(where.home)
    checks.before_start(where, programs, env)
    _prepare(where)
    started = time.monotonic()
    supervise.start(where.home, config, _supervised_environment(where.home))
    try:
        wait_until_well(where, programs)
    except (LocalError, KeyboardInterrupt):
        _end_all(where.home)
        raise
    print(f"Up in {time.monotonic() - started:.0f} s.")
    return where


def _resume(where: Place, programs: tuple[Service, ...]) -> None:
    """Has what has stopped start again, and leaves alone what runs: tasks may be at work."""
    if unwell(where, programs):
        supervise.start_stopped(where.home)
        wait_until_well(where, programs)
    print("Already up.")


def down(*, keep: bool = False) -> None:
    """Stops all that `up` started, and deletes the home's state unless `keep`."""
    where = place()
    count = _end_all(where.home)
    print(f"Stopped {count} processes." if count else "Nothing was running.")
    if not keep:
        _delete(where.home)


def running(home: Path) -> bool:
    """Whether this home's supervisord is there."""
    return supervise.answers(home)


def unwell(where: Place, programs: tuple[Service, ...]) -> list[str]:
    """The names of services that are not well at this moment."""
    states = supervise.states(where.home) or {}
    return [program.name for program in programs if not is_well(program, states.get(program.name, {}))]


def is_well(program: Service, state: dict[str, object]) -> bool:
    """Whether the service's health endpoint is content, and it is our own process that answers, not a stale one's."""
    pid, start = state.get("pid"), state.get("start")
    if state.get("statename") not in {"RUNNING", "STARTING"} or not isinstance(pid, int) or not isinstance(start, int):
        return False
    if program.port is not None and not processes.listens(pid, program.port):
        return False
    try:
        with urllib.request.urlopen(program.health_url, timeout=5) as answer:
            body = answer.read()
    except (OSError, urllib.error.URLError):
        return False
    return program.healthy(_json(body), datetime.fromtimestamp(start, UTC))


def wait_until_well(where: Place, programs: tuple[Service, ...]) -> None:
    """One live line per service, until all are well.

    Raises:
        LocalError: one gave up or took more than START_SECONDS; the message ends with its last words.
    """
    waiting = list(programs)
    begun = time.monotonic()
    with Lines({program.name: program.title for program in programs}) as lines:
        while waiting:
            states = supervise.states(where.home) or {}
            for program in list(waiting):
                state = states.get(program.name, {})
                if state.get("statename") == "FATAL" or time.monotonic() - begun > START_SECONDS:
                    raise LocalError(_did_not_start(where, program))
                if is_well(program, state):
                    waiting.remove(program)
                    url = program.health_url.split("/", 3)[:3] if program.port else []
                    lines.done(program.name, "/".join(url))
            time.sleep(0.3)


def _did_not_start(where: Place, program: Service) -> str:
    log = where.home / "logs" / f"{program.name}.log"
    words = log.read_text(errors="replace").splitlines()[-15:] if log.exists() else []
    return "\n".join(
        [f"{program.title} did not start. Its log is {log} and ends with:", *(f"  {line}" for line in words)]
    )


def _prepare(where: Place) -> None:
    env = {**os.environ, **environment()}
    for folder in ("airflow", "mlflow", "logs", "run", "store", "landing", "remote", "cache", "tmp"):
        (where.home / folder).mkdir(parents=True, exist_ok=True)
    (where.home / checks.MARKER).touch()
    login = {"admin": keys.load(where.home)["admin_password"]}
    keys.write_private(airflow_settings.passwords_file(where.home), json.dumps(login) + "\n")
    _migrate(where.home, env)


def _migrate(home: Path, env: dict[str, str]) -> None:
    """Makes or upgrades Airflow's database, unless this version of Airflow did so before (the command takes seconds)."""
    done_by = home / "airflow" / f".migrated-{version('apache-airflow-core')}"
    if done_by.exists():
        return
    with Lines({"db": "Airflow's database"}) as lines:
        command = [str(scripts() / "airflow"), "db", "migrate"]
        done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise LocalError(
                f"`airflow db migrate` failed; `make down` deletes the database, then `make up` makes a new one:\n"
                f"{(done.stdout + done.stderr)[-2000:]}"
            )
        lines.done("db", "")
    done_by.touch()


def _supervised_environment(home: Path) -> dict[str, str]:
    scratch = home / "tmp"
    # Tasks that are killed leave their temporary files; multiprocessing's sockets there want a short path.
    temporary = {"TMPDIR": str(scratch)} if len(os.fsencode(scratch)) < 60 else {}
    return {
        **os.environ,
        **environment(),
        **temporary,
        processes.MARK: str(home),
        # Without it setproctitle writes over the environment that /proc shows, and the mark with it.
        "SPT_NOENV": "1",
    }


def _digest(env: dict[str, str]) -> str:
    """Changes when a setting does, so that `up` knows that what runs was started with others; PATH differs by shell."""
    lines = sorted(f"{name}={value}" for name, value in env.items() if name != "PATH")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _end_all(home: Path) -> int:
    """Ends this home's supervisord and all below it, and what a killed supervisord has left; returns how many there were."""
    before = processes.ours(home)
    if running(home):
        supervise.shut_down(home)
    # Tasks have process groups of their own, so supervisord does not reach them.
    processes.end(processes.ours(home))
    return len(before)


def _delete(home: Path) -> None:
    socket = supervise.socket_path(home)
    if socket.parent != home / "run":
        shutil.rmtree(socket.parent, ignore_errors=True)
    if not home.exists() or not checks.is_ours(home):
        return
    for entry in list(home.iterdir()):
        if entry.name not in checks.KEPT:
            _remove(entry)
    if not any(home.iterdir()):
        home.rmdir()


def _remove(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink(missing_ok=True)


def _json(body: bytes) -> object:
    try:
        return json.loads(body)
    except ValueError:
        return None
