"""supervisord for one home: its configuration, its start, and talk with it over a private unix socket."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, ServerProxy

from supervisor.xmlrpc import SupervisorTransport

from local.errors import LocalError
from local.paths import ROOT
from local.services import Service

MAX_SOCKET = 90
"""A unix socket's path holds 104 to 108 bytes, and supervisord first makes it with its process id appended."""


def socket_path(home: Path) -> Path:
    """The control socket: in the home, or in a private folder of the temporary area where the home's path is too long."""
    near = home / "run" / "supervisor.sock"
    if len(os.fsencode(near)) <= MAX_SOCKET:
        return near
    name = hashlib.sha256(os.fsencode(home)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"airloop-{os.getuid()}-{name}" / "s.sock"


def start(home: Path, config: str, env: dict[str, str]) -> None:
    """Starts supervisord with this configuration, detached; returns when it answers.

    Raises:
        LocalError: it did not answer within 30 seconds.
    """
    socket = socket_path(home)
    for folder in (socket.parent, home / "logs", home / "run"):
        folder.mkdir(parents=True, exist_ok=True)
    socket.parent.chmod(0o700)
    if socket.parent.stat().st_uid != os.getuid():
        raise LocalError(f"{socket.parent} belongs to another user; set AIRLOOP_HOME to a shorter path.")
    file = home / "supervisord.conf"
    file.write_text(config)
    subprocess.run(
        [sys.executable, "-m", "supervisor.supervisord", "-c", str(file)],
        env=env,
        check=False,
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # A background job of a shell ignores SIGINT, its children inherit that, and Airflow stops on SIGINT only.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 30
    while not answers(home):
        if time.monotonic() > deadline:
            raise LocalError(f"The process manager did not start; see {home / 'logs' / 'supervisord.log'}.")
        time.sleep(0.1)


def configuration(home: Path, programs: Iterable[Service], settings: str = "") -> str:
    """The text of supervisord.conf, with a digest of the settings as a remark.

    It holds no secret: those reach the programs through the environment.
    """
    socket = socket_path(home)
    head = f"""\
; settings {settings}
[supervisord]
logfile={_quoted(home / "logs" / "supervisord.log")}
logfile_maxbytes=10MB
pidfile={_quoted(home / "run" / "supervisord.pid")}
childlogdir={_quoted(home / "logs")}
directory={_quoted(ROOT)}

[unix_http_server]
file={_quoted(socket)}
chmod=0700

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
"""
    return head + "".join(_section(home, program) for program in programs)


def runs(home: Path, config: str) -> bool:
    """Whether supervisord was last started with this configuration."""
    try:
        return (home / "supervisord.conf").read_text() == config
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
    deadline = time.monotonic() + timeout
    while answers(home) and time.monotonic() < deadline:
        time.sleep(0.1)


def start_stopped(home: Path) -> None:
    """Starts each program that has stopped or was given up."""
    for name, info in (states(home) or {}).items():
        if info["statename"] in {"STOPPED", "EXITED", "FATAL"}:
            with contextlib.suppress(Fault):
                _server(home).startProcess(name, False)


def stop(home: Path, name: str) -> None:
    """Stops one program; it stays stopped until the next `up`."""
    _server(home).stopProcess(name)


def _server(home: Path) -> Any:  # its methods are known only at run time
    transport = SupervisorTransport(None, None, f"unix://{socket_path(home)}")
    return ServerProxy("http://127.0.0.1", transport).supervisor


def _section(home: Path, program: Service) -> str:
    return f"""
[program:{program.name}]
command={" ".join(f'"{_quoted(word)}"' for word in program.command)}
directory={_quoted(ROOT)}
stdout_logfile={_quoted(home / "logs" / f"{program.name}.log")}
stdout_logfile_maxbytes=20MB
stdout_logfile_backups=1
redirect_stderr=true
autorestart=true
startsecs=2
startretries=2
stopsignal=INT
stopwaitsecs={program.stop_seconds}
killasgroup=true
"""


def _quoted(value: object) -> str:
    """A value for the configuration: supervisord reads a percent sign as the start of a substitution."""
    return str(value).replace("%", "%%")
