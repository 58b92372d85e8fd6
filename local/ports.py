"""The ports of a home: those that somebody named, else those of its last start, else the usual ones or the next free.

A home keeps its addresses in a file, which tasks/settings/addresses.py reads too, so that a stage run by hand finds the
services of its own home and no other's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from local import keys
from local.errors import LocalError
from local.paths import is_demo
from local.place import DEMO_STEP, HOST, PORTS, Place
from local.processes import holder, is_busy
from tasks.settings import addresses

SERVICES = {"AIRLOOP_AIRFLOW_PORT": "airflow", "AIRLOOP_MLFLOW_PORT": "mlflow", "AIRLOOP_ONLINE_PORT": "online"}
TRIES = 100


def of(home: Path, variables: Mapping[str, str]) -> dict[str, int]:
    """Each variable of a port with its port now.

    Raises:
        LocalError: one is not a number from 1 to 65535, or two services share one.
    """
    kept = remembered(home)
    ports = {
        name: port if is_named(name, variables) else kept.get(name, port)
        for name, port in usual(variables, PORTS).items()
    }
    if len(set(ports.values())) < len(ports):
        raise LocalError(f"Two services share a port ({ports}); give each of {', '.join(PORTS)} its own.")
    return ports


def usual(variables: Mapping[str, str], defaults: Mapping[str, int]) -> dict[str, int]:
    """What is named or the default; for the demo, DEMO_STEP more."""
    step = DEMO_STEP if is_demo(variables) else 0
    return {name: _port(name, variables.get(name, ""), default) + step for name, default in defaults.items()}


def is_named(name: str, variables: Mapping[str, str]) -> bool:
    """Whether somebody named this port, so that it stays; what is named for `airloop up` is not for the demo."""
    return bool(variables.get(name)) and not is_demo(variables)


def remembered(home: Path) -> dict[str, int]:
    """The ports of the home's last start; empty where it never was up."""
    kept = addresses.of(home)
    found = {name: urlsplit(kept.get(service, "")).port for name, service in SERVICES.items()}
    return {name: port for name, port in found.items() if port}


def settle(where: Place, variables: Mapping[str, str]) -> Place:
    """Have each port that another program holds make way, unless somebody named it; remember and return the place.

    Raises:
        LocalError: no port is free near the usual one.
    """
    ports = where.ports
    for name, first in usual(variables, PORTS).items():
        if not is_named(name, variables) and is_busy(HOST, ports[name]):
            taken = set(ports.values())
            free = [port for port in range(first, first + TRIES) if port not in taken and not is_busy(HOST, port)][:1]
            if not free:
                raise LocalError(f"No port from {first} to {first + TRIES - 1} is free; set {name} to one that is.")
            by = f" ({who})" if (who := holder(ports[name])) else ""
            print(
                f"Port {ports[name]} is taken by another program{by}; {SERVICES[name]} of {where.home} listens on {free[0]} "
                f"from now on. {name} names another.",
                flush=True,
            )
            ports[name] = free[0]
    airflow, mlflow, online = ports.values()
    moved = replace(where, airflow_port=airflow, mlflow_port=mlflow, online_port=online)
    remember(moved)
    return moved


def remember(where: Place) -> None:
    """Write the home's addresses to its file."""
    urls = {"airflow": where.airflow_url, "mlflow": where.mlflow_url, "online": where.online_url}
    keys.write_private(where.home / addresses.FILE, json.dumps(urls, indent=1) + "\n")


def _port(name: str, raw: str, default: int) -> int:
    try:
        port = int(raw or default)
    except ValueError:
        port = 0
    if not 0 < port < 65536:
        raise LocalError(f"{name}={raw!r} is no port; use a number from 1 to 65535.")
    return port
