"""The one environment of everything that runs on this machine: services, demo, tests, bench and `airloop shell`.

AIRLOOP_* variables say where things are. Each is optional; one that is set in the process, or else in the checkout's
`.env`, wins over the default. So do the settings in airflow_settings.tuning(); all others keep what runs here inside its
home, whatever a shell has exported for other work (leaks.py).
"""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from pathlib import Path

from local import airflow_settings, dotenv, java, keys, leaks, ports, postgres
from local.paths import ROOT, STAMP, home_from, is_demo, scripts
from local.place import HOST, PORTS, Place, mlflow_path
from tasks.core import network
from tasks.core.urls import url_of
from tasks.engines import jvm
from tasks.settings.environment import default_model

WORK = {
    "AIRLOOP_STORE",
    "AIRLOOP_LANDING",
    "AIRLOOP_DVC_REMOTE",
    "AIRLOOP_DVC_CACHE",
    "AIRLOOP_ONLINE_URL",
    "AIRLOOP_STUDIES",
}
"""Where a team's work lies."""


def place() -> Place:
    """Reads the home and the ports from the process's environment and `.env`.

    Raises:
        LocalError: a port is not a number from 1 to 65535, or two services share one.
    """
    variables = said()
    home = home_from(variables)
    code = Path(variables.get("AIRLOOP_CODE") or ROOT).absolute()
    airflow, mlflow, online = ports.of(home, variables).values()
    return Place(home, code, airflow, mlflow, online, mlflow_path(home))


def environment() -> dict[str, str]:
    """Every variable of Airloop's, to be laid over `os.environ`; makes the home's secrets and scratch folder."""
    where = place()
    (where.home / "tmp").mkdir(parents=True, exist_ok=True)
    demo = is_demo(said())
    variables = _of_demo(said()) if demo else said()
    java_home = java.usable(variables.get("JAVA_HOME", ""), _stamped_java())
    secrets = keys.load(where.home)
    defaults = {**_airloop(where), "AIRLOOP_ADMIN_TOKEN": keys.admin_token(secrets), **airflow_settings.tuning()}
    fixed = {
        **_tools(where, java_home),
        **airflow_settings.fixed(where, secrets),
        "AIRLOOP_HOME": str(where.home),
        "AIRLOOP_DEMO": "",  # the home above is the demo's by now
        "AIRLOOP_CODE": str(where.code),
        "PATH": _path(java_home),
        "PYTHONPATH": str(where.code),
        "PYTHONUTF8": "1",  # whatever the locale: names, logs and records are UTF-8
        **network.settings(variables),
        **({"JAVA_HOME": java_home} if java_home else {}),
    }
    none = dict.fromkeys(WORK, "") if demo else {}
    shell = leaks.without(os.environ)
    from_file = {
        name: value for name, value in dotenv.read(ROOT / ".env").items() if name in variables and name not in shell
    }
    return {
        **none,
        **from_file,
        **defaults,
        **{name: variables[name] for name in defaults if variables.get(name)},
        **fixed,
    }


def _airloop(where: Place) -> dict[str, str]:
    home = where.home
    return {
        "AIRLOOP_PLACE": "embedded",
        "AIRLOOP_MODEL": default_model(where.code),  # whatever run.yaml is about just now
        "AIRLOOP_STORE": url_of(home / "store"),
        "AIRLOOP_LANDING": url_of(home / "landing"),
        "AIRLOOP_DVC_REMOTE": str(home / "remote"),
        "AIRLOOP_DVC_CACHE": str(home / "cache"),
        "AIRLOOP_STUDIES": postgres.url(home, "studies"),
        "AIRLOOP_ONLINE_URL": where.online_url,
        "AIRLOOP_APPRISE_URL": "",
        **{name: str(port) for name, port in where.ports.items()},
    }


def _of_demo(variables: dict[str, str]) -> dict[str, str]:
    """Without what says where the work of `airloop up` lies: the demo reads and writes in its own home only."""
    return {name: value for name, value in variables.items() if name not in WORK and name not in PORTS}


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
        "SPARK_HOME": str(spark_home()),
        "SPARK_CONF_DIR": str(spark_home() / "conf"),  # which PySpark does not have
        "PYSPARK_PYTHON": python,
        "PYSPARK_DRIVER_PYTHON": python,
        "SPARK_LOCAL_IP": HOST,  # the driver's and the block manager's ports
        "SPARK_LOCAL_DIRS": str(home / "tmp"),
        # A Spark that is killed leaves its files where the JVM keeps temporary ones, and every JVM leaves its counters.
        "SPARK_SUBMIT_OPTS": " ".join((jvm.flag(f"-Djava.io.tmpdir={home / 'tmp'}"), jvm.options(java_home))),
    }


def _path(java_home: str) -> str:
    ours = [str(scripts()), *([str(Path(java_home) / "bin")] if java_home else [])]
    theirs = [part for part in os.environ.get("PATH", os.defpath).split(os.pathsep) if part not in ours]
    return os.pathsep.join([*ours, *theirs])


def _stamped_java() -> str:
    try:
        return str(json.loads(STAMP.read_text(encoding="utf-8"))["java_home"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def said() -> dict[str, str]:
    """The process's environment without what was set for other work, over the checkout's `.env`."""
    return {**dotenv.read(ROOT / ".env"), **leaks.without(os.environ)}


def whole() -> dict[str, str]:
    """The environment of one of our processes: this one's without what was set for other work, and ours over it."""
    return {**leaks.without(os.environ), **environment()}


def take_on() -> None:
    """Make that the environment of this process."""
    made = whole()
    os.environ.clear()
    os.environ.update(made)


def spark_home() -> Path:
    """Where PySpark keeps its Spark."""
    found = find_spec("pyspark")
    return Path(found.origin).parent if found and found.origin else scripts()
