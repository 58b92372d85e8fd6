"""`up`, `down` and `status`: every service of one machine, started, watched until it is well, and stopped."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from local import airflow_settings, checks, keys, ports, postgres, processes, supervise
from local.env import environment, place, said, whole
from local.errors import LocalError
from local.paths import ROOT, scripts
from local.place import Place
from local.progress import Lines, waiting
from local.services import Service, services

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Opens this machine's own addresses, past every proxy that a shell names."""
START_SECONDS = 300
"""25 s where nothing else runs, a minute on a busy laptop; past five something is wrong."""


def up() -> Place:
    """Starts what is not running and returns when every service is well; says so line by line.

    Raises:
        LocalError: a check failed, or a service did not get well; then nothing is left running.
    """
    where, programs, env, config = _planned(place())
    if running(where.home) and supervise.runs(where.home, config):
        _resume(where, programs)
        return where
    _end_all(where.home)
    checks.check_home(where.home)
    where, programs, env, config = _planned(ports.settle(where, said()))
    checks.before_start(where, programs, env)
    _prepare(where)
    started = time.monotonic()
    supervise.start(where.home, config, programs, _supervised_environment(where.home))
    try:
        _start(where, programs)
    except (LocalError, KeyboardInterrupt):
        _end_all(where.home)
        raise
    print(f"Up in {time.monotonic() - started:.0f} s.")
    return where


def _planned(where: Place) -> tuple[Place, tuple[Service, ...], dict[str, str], str]:
    """The place with its programs, their environment and supervisord's configuration."""
    programs, env = services(where), environment()
    return where, programs, env, supervise.configuration(where.home, programs, _digest(env))


def _resume(where: Place, programs: tuple[Service, ...]) -> None:
    """Has what has stopped start again, and leaves alone what runs: tasks may be at work."""
    if unwell(where, programs):
        _start(where, programs)
    print("Already up.")


def _start(where: Place, programs: tuple[Service, ...]) -> None:
    """Has everything run that does not, the database before those that need it."""
    first = tuple(program for program in programs if program.first)
    supervise.start_stopped(where.home, first)
    wait_until_well(where, first)
    postgres.make_databases(where.home)
    _migrate(where.home)
    others = tuple(program for program in programs if not program.first)
    supervise.start_stopped(where.home, others)
    wait_until_well(where, others)


def down() -> None:
    """Stops all that `up` started; its data stay."""
    home = place().home
    count = _end_all(home)
    print(f"Stopped {count} processes." if count else "Nothing was running.")


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
    if program.answers is not None:
        return program.answers(pid)
    if program.port is not None and not processes.listens(pid, program.port):
        return False
    try:
        with _DIRECT.open(program.health_url, timeout=5) as answer:
            body = answer.read()
    except (OSError, urllib.error.URLError):
        return False
    return program.healthy(_json(body), datetime.fromtimestamp(start, UTC))


def wait_until_well(where: Place, programs: tuple[Service, ...]) -> None:
    """One live line per service, until all are well.

    Raises:
        LocalError: one gave up or took more than START_SECONDS; the message ends with its last words.
    """
    left = list(programs)
    with Lines({program.name: program.title for program in programs}) as lines:
        for _ in waiting(lambda: ", ".join(p.title for p in left), START_SECONDS, 0.3, said=not lines.live):
            states = supervise.states(where.home) or {}
            for program in list(left):
                state = states.get(program.name, {})
                if state.get("statename") == "FATAL":
                    raise LocalError(_did_not_start(where, program))
                if is_well(program, state):
                    left.remove(program)
                    url = program.health_url.split("/", 3)[:3] if program.port else []
                    lines.done(program.name, "/".join(url))
            if not left:
                return
    raise LocalError(_did_not_start(where, left[0]))


def _did_not_start(where: Place, program: Service) -> str:
    log = where.home / "logs" / f"{program.name}.log"
    words = log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:] if log.exists() else []
    return "\n".join(
        [f"{program.title} did not start. Its log is {log} and ends with:", *(f"  {line}" for line in words)]
    )


def _prepare(where: Place) -> None:
    for folder in ("airflow", "mlflow", "logs", "run", "store", "landing", "remote", "cache", "tmp"):
        (where.home / folder).mkdir(parents=True, exist_ok=True)
    (where.home / checks.MARKER).touch()
    login = {"admin": keys.load(where.home)["admin_password"]}
    keys.write_private(airflow_settings.passwords_file(where.home), json.dumps(login) + "\n")


def _migrate(home: Path) -> None:
    """Makes or upgrades Airflow's tables, unless this version of Airflow did so before (the command takes seconds)."""
    done_by = f"migrated by {version('apache-airflow-core')}"
    if postgres.remark(home, "airflow") == done_by:
        return
    with Lines({"db": "Airflow's database"}) as lines:
        command = [str(scripts() / "airflow"), "db", "migrate"]
        env = _supervised_environment(home)
        done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise LocalError(
                f"`airflow db migrate` failed; `airloop delete` deletes the database with all other data, then `airloop up` begins afresh:\n"
                f"{(done.stdout + done.stderr)[-2000:]}"
            )
        lines.done("db", "")
    postgres.set_remark(home, "airflow", done_by)


def _supervised_environment(home: Path) -> dict[str, str]:
    scratch = home / "tmp"
    # Tasks that are killed leave their temporary files; multiprocessing's sockets there want a short path.
    temporary = {"TMPDIR": str(scratch)} if len(os.fsencode(scratch)) < 60 else {}
    return {
        **postgres.without_libpq(whole()),
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
    if before:
        print(f"Stopping {len(before)} processes of {home}…", flush=True)
    if running(home):
        supervise.shut_down(home)
    # Tasks have process groups of their own, so supervisord does not reach them.
    processes.end(process for process in processes.ours(home) if process not in postgres.processes_of(home))
    postgres.stop(home)
    return len(before)


def _json(body: bytes) -> object:
    try:
        return json.loads(body)
    except ValueError:
        return None
