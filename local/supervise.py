"""supervisord for one home: its configuration, its start, and talk with it over a private unix socket."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, ServerProxy

from supervisor.xmlrpc import SupervisorTransport

from local import runtime
from local.errors import LocalError
from local.paths import ROOT
from local.progress import waiting
from local.services import Service

START_SECONDS = 30

_HOME = "%(ENV_AIRLOOP_SUPERVISED_HOME)s"
_ROOT = "%(ENV_AIRLOOP_SUPERVISED_ROOT)s"


def socket_path(home: Path) -> Path:
    """The control socket."""
    return runtime.folder(home) / "supervisor.sock"


def start(home: Path, config: str, programs: Iterable[Service], env: dict[str, str]) -> None:
    """Starts supervisord and the services that are first, detached; returns when supervisord answers.

    Raises:
        LocalError: it did not answer within 30 seconds.
    """
    runtime.make(home)
    for folder in (home / "logs", home / "run"):
        folder.mkdir(parents=True, exist_ok=True)
    file = home / "supervisord.conf"
    file.write_text(config, encoding="utf-8")
    subprocess.run(
        [sys.executable, "-m", "supervisor.supervisord", "-c", str(file)],
        env={**env, **_words(home, programs)},
        check=False,
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # A background job of a shell ignores SIGINT, its children inherit that, and Airflow stops on SIGINT only.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    for _ in waiting(lambda: "the process manager", START_SECONDS, 0.1):
        if answers(home):
            return
    raise LocalError(f"The process manager did not start; see {home / 'logs' / 'supervisord.log'}.")


def configuration(home: Path, programs: Iterable[Service], settings: str = "") -> str:
    """The text of supervisord.conf, with a digest of the settings and of all paths as a remark.

    It holds no secret: those reach the programs through the environment. Nor does it hold a path: supervisord cuts a value
    at `;` or `#` behind a space, reads a percent sign as a substitution and quotes in a command as a shell does, and
    escapes exist for some of that only. What it substitutes from the environment it takes as it is.
    """
    programs = tuple(programs)
    words = hashlib.sha256("\0".join(_words(home, programs).values()).encode("utf-8", "surrogateescape")).hexdigest()
    head = f"""\
; settings {settings} paths {words[:16]}
[supervisord]
logfile={_HOME}/logs/supervisord.log
logfile_maxbytes=10MB
pidfile={_HOME}/run/supervisord.pid
childlogdir={_HOME}/logs
directory={_ROOT}
umask={_umask():03o}

[unix_http_server]
file=%(ENV_AIRLOOP_SUPERVISED_SOCKET)s
chmod=0700

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
"""
    return head + "".join(_section(program) for program in programs)


def runs(home: Path, config: str) -> bool:
    """Whether supervisord was last started with this configuration."""
    try:
        return (home / "supervisord.conf").read_text(encoding="utf-8") == config
    except OSError:
        return False


def answers(home: Path) -> bool:
    """Whether this home's supervisord is there."""
    return states(home) is not None


def states(home: Path) -> dict[str, dict[str, Any]] | None:
    """What supervisord says of each program (statename, pid, start, spawnerr), by name; None when it is not there."""
    try:
        return {info["name"]: info for info in _server(home).getAllProcessInfo()}
    except (OSError, Fault):
        return None


def shut_down(home: Path, timeout: float = 40.0) -> None:
    """Has supervisord stop every program and then itself; returns when it has gone, or after `timeout` seconds."""
    with contextlib.suppress(OSError, Fault):
        _server(home).shutdown()
    for _ in waiting(lambda: "services that end their work", timeout, 0.1):
        if not answers(home):
            return


def start_stopped(home: Path, programs: Iterable[Service]) -> None:
    """Starts each of these programs that has not started yet, has stopped or was given up."""
    known = states(home) or {}
    for name in (program.name for program in programs):
        if known.get(name, {}).get("statename") in {"STOPPED", "EXITED", "FATAL"}:
            with contextlib.suppress(Fault):
                _server(home).startProcess(name, False)


def stop(home: Path, name: str) -> None:
    """Stops one program; it stays stopped until the next `up`."""
    _server(home).stopProcess(name)


def _server(home: Path) -> Any:  # its methods are known only at run time
    transport = SupervisorTransport(None, None, f"unix://{socket_path(home)}")
    return ServerProxy("http://127.0.0.1", transport).supervisor


def _words(home: Path, programs: Iterable[Service]) -> dict[str, str]:
    """What the configuration takes from supervisord's environment."""
    return {
        "AIRLOOP_SUPERVISED_HOME": str(home),
        "AIRLOOP_SUPERVISED_LOGS": str(home / "logs").replace("%", "%%"),  # a program's log is substituted twice
        "AIRLOOP_SUPERVISED_ROOT": str(ROOT),
        "AIRLOOP_SUPERVISED_SOCKET": str(socket_path(home)),
        **{_command(program): shlex.join(program.command) for program in programs},
    }


def _command(program: Service) -> str:
    return f"AIRLOOP_SUPERVISED_{program.name.upper().replace('-', '_')}"


def _umask() -> int:
    """This process's own, with which no other user can write."""
    os.umask(mask := os.umask(0o022))
    return mask | 0o002


def _section(program: Service) -> str:
    return f"""
[program:{program.name}]
command=%(ENV_{_command(program)})s
directory={_ROOT}
stdout_logfile=%(ENV_AIRLOOP_SUPERVISED_LOGS)s/{program.name}.log
stdout_logfile_maxbytes=20MB
stdout_logfile_backups=1
redirect_stderr=true
autostart={str(program.first).lower()}
autorestart=true
priority={1 if program.first else 999}
startsecs=2
startretries=2
stopsignal=INT
stopwaitsecs={program.stop_seconds}
killasgroup=true
"""
