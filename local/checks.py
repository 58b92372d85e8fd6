"""What `up` looks at before it starts anything; each failure is one sentence with the way out."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from local import java, postgres
from local.env import said
from local.errors import LocalError
from local.paths import DEMO, HOME
from local.place import HOST, Place
from local.processes import holder, is_busy
from local.services import Service
from tasks.core.disk import LOCK
from tasks.core.errors import AirloopError
from tasks.core.urls import path_of
from tasks.settings import addresses
from tasks.storage import old_store
from tasks.storage.artefacts import Store

DISK_BYTES = 6 * 1024**3
MARKER = ".airloop-home"
"""Lies in every home that `up` made; `delete` deletes no folder without it."""
KEPT = {"jdk", "package-cache", "source", DEMO}
"""Downloads, so that the next start needs no network, and the demo's own home: `delete` leaves them."""
UNCLAIMED = ("secrets.json", "tmp", addresses.FILE, LOCK)
"""All that asking for the environment, and a start that was refused, make in a home that was never up."""


def before_start(place: Place, programs: tuple[Service, ...], env: dict[str, str]) -> None:
    """All checks, quickest first.

    Raises:
        LocalError: naming what is wrong and what to do.
    """
    check_python()
    check_home(place.home)
    postgres.check(place.home)
    check_store(env["AIRLOOP_STORE"])
    check_disk(place.home)
    for program in programs:
        check_port(program)
    check_java(env, said().get("JAVA_HOME", ""))


def check_python() -> None:
    """The running Python must be one that the locks were compiled for."""
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        raise LocalError(f"Airloop needs Python 3.11 to 3.13; this is {sys.version.split()[0]}. Run `make setup`.")


def check_home(home: Path) -> None:
    """The home does not exist yet, or is ours."""
    name = str(home)
    if set("{},") & set(name) or os.path.expandvars(name) != name:
        raise LocalError(
            f"AIRLOOP_HOME={home}: Spark splits its folders at a comma, DVC takes braces for placeholders, and Airflow puts in "
            "the value of a $NAME; set AIRLOOP_HOME to a folder without these."
        )
    if home.exists() and not is_ours(home):
        raise LocalError(
            f"AIRLOOP_HOME={home} holds files that Airloop did not make, and `airloop delete` would delete them; "
            f"set AIRLOOP_HOME to a new folder."
        )


def check_store(url: str) -> None:
    """The store is not of a version that kept one model at its top; one that is elsewhere is not asked."""
    if path_of(url) is None:
        return
    try:
        old_store.refuse(Store(url))
    except AirloopError as error:
        raise LocalError(str(error)) from None


def is_ours(home: Path) -> bool:
    """Whether it is the checkout's own, `up` made it, or it holds only what setting up and asking for the environment make."""
    return home == HOME or (home / MARKER).exists() or {entry.name for entry in home.iterdir()} <= {*KEPT, *UNCLAIMED}


def check_disk(home: Path) -> None:
    """6 GB free, for a demo's data, models, logs and Spark's scratch files."""
    folder = home
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < DISK_BYTES:
        raise LocalError(
            f"{folder} has {free / 1024**3:.1f} GB free and Airloop wants 6; make room there, "
            f"or set AIRLOOP_HOME to a folder on another disk."
        )


def check_port(program: Service) -> None:
    """The service's port must be free."""
    if program.port is None or not is_busy(HOST, program.port):
        return
    who = holder(program.port)
    by = f"by another program ({who})" if who else "by another program"
    raise LocalError(
        f"Port {program.port}, which {program.title} wants, is taken {by}; stop that, "
        f"or set {program.port_variable} to a free port."
    )


def check_java(env: dict[str, str], named: str = "") -> None:
    """JAVA_HOME must hold a Java that Spark 4 runs on; where another is used than the ``named`` one, say so."""
    home = env.get("JAVA_HOME", "")
    if named and named != home:
        print(f"JAVA_HOME={named} is no complete Java 17 or 21, which Spark 4 needs; {home} is used.", flush=True)
    if not home or not os.access(Path(home) / "bin" / "java", os.X_OK):
        raise LocalError(f"Spark needs Java 17 or 21 and JAVA_HOME={home!r} holds none. {java.WAY_OUT}")
    if java.probe(Path(home) / "bin" / "java") is None:
        raise LocalError(
            f"The Java in JAVA_HOME={home!r} is not a complete 17 or 21, which Spark 4 needs. {java.WAY_OUT}"
        )
