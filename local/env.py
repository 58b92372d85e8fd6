"""The one environment of everything that runs on this machine: services, demo, tests, bench and `make shell`.

AIRLOOP_* variables say where things are. Each is optional; one that is set in the process, or else in the checkout's
`.env`, wins over the default. So do the settings in airflow_settings.tuning(); all others keep what runs here inside its
home, whatever a shell has exported for other work.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from local import airflow_settings, keys
from local.errors import LocalError
from local.paths import ROOT, STAMP, home_from, scripts
from local.place import HOST, PORTS, Place
from tasks.common import jvm


def place() -> Place:
    """Reads the home and the ports from the process's environment and `.env`.

    Raises:
        LocalError: a port is not a number from 1 to 65535, or two services share one.
    """
    told = said()
    ports = {name: _port(name, told.get(name, ""), default) for name, default in PORTS.items()}
    if len(set(ports.values())) < len(ports):
        raise LocalError(f"Two services share a port ({ports}); give each of {', '.join(PORTS)} its own.")
    code = Path(told.get("AIRLOOP_CODE") or ROOT).absolute()
    return Place(home_from(told), code, *ports.values())


def environment() -> dict[str, str]:
    """Every variable of ours, to be laid over `os.environ`; makes the home's secrets and scratch folder."""
    where = place()
    (where.home / "tmp").mkdir(parents=True, exist_ok=True)
    told = said()
    java_home = told.get("JAVA_HOME") or _stamped_java()
    defaults = {**_airloop(where), **airflow_settings.tuning()}
    fixed = {
        **_tools(where, java_home),
        **airflow_settings.fixed(where, keys.load(where.home)),
        "AIRLOOP_HOME": str(where.home),
        "AIRLOOP_CODE": str(where.code),
        "PATH": _path(java_home),
        "PYTHONPATH": str(where.code),
        **({"JAVA_HOME": java_home} if java_home else {}),
    }
    from_file = {name: value for name, value in _file().items() if name not in os.environ}
    return {**from_file, **defaults, **{name: told[name] for name in defaults if told.get(name)}, **fixed}


def _airloop(where: Place) -> dict[str, str]:
    home = where.home
    return {
        "AIRLOOP_PLACE": "embedded",
        "AIRLOOP_STORE": (home / "store").as_uri(),
        "AIRLOOP_LANDING": (home / "landing").as_uri(),
        "AIRLOOP_DVC_REMOTE": str(home / "remote"),
        "AIRLOOP_DVC_CACHE": str(home / "cache"),
        "AIRLOOP_ONLINE_URL": where.online_url,
        "AIRLOOP_APPRISE_URL": "",
        **{name: str(port) for name, port in zip(PORTS, _ports(where), strict=True)},
    }


def _ports(where: Place) -> tuple[int, int, int]:
    return where.airflow_port, where.mlflow_port, where.online_port


def _tools(where: Place, java_home: str) -> dict[str, str]:
    home = where.home
    python = str(scripts() / "python")
    return {
        "MLFLOW_TRACKING_URI": where.mlflow_url,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # it starts five more processes and 1.5 GB
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "1",  # Evidently and others
        "SCARF_ANALYTICS": "false",  # Airflow
        "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime, which keeps an id of the device besides
        "DVC_NO_ANALYTICS": "1",
        # By default this lies in /var/tmp or the like, outside the home, and outlives `down`.
        "DVC_SITE_CACHE_DIR": str(home / "dvc-site"),
        "DVC_GLOBAL_CONFIG_DIR": str(home / "dvc-config"),  # a developer's own remotes must not leak in
        "GIT_PYTHON_REFRESH": "quiet",
        "PYSPARK_PYTHON": python,
        "PYSPARK_DRIVER_PYTHON": python,
        "SPARK_LOCAL_IP": HOST,  # the driver's and the block manager's ports
        "SPARK_LOCAL_DIRS": str(home / "tmp"),
        # A Spark that is killed leaves its files where the JVM keeps temporary ones, and every JVM leaves its counters.
        "SPARK_SUBMIT_OPTS": f'-Djava.io.tmpdir="{home / "tmp"}" {jvm.options(java_home)}',
    }


def _path(java_home: str) -> str:
    ours = [str(scripts()), *([str(Path(java_home) / "bin")] if java_home else [])]
    theirs = [part for part in os.environ.get("PATH", os.defpath).split(os.pathsep) if part not in ours]
    return os.pathsep.join([*ours, *theirs])


def _stamped_java() -> str:
    try:
        return str(json.loads(STAMP.read_text())["java_home"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def said() -> dict[str, str]:
    """The process's environment, over the checkout's `.env`."""
    return {**_file(), **os.environ}


def _file() -> dict[str, str]:
    """What the checkout's `.env` says: lines of NAME=value; # starts a remark. No file says nothing."""
    said = {}
    try:
        lines = (ROOT / ".env").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        if equals and not name.startswith("#"):
            said[name.strip()] = value.strip().strip("'\"")
    return said


def _port(name: str, raw: str, default: int) -> int:
    try:
        port = int(raw or default)
    except ValueError:
        port = 0
    if not 0 < port < 65536:
        raise LocalError(f"{name}={raw!r} is no port; use a number from 1 to 65535.")
    return port
