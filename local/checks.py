"""What `up` looks at before it starts anything; each failure is one sentence with the way out."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from local import java
from local.errors import LocalError
from local.paths import HOME
from local.place import HOST, Place
from local.processes import holder, is_busy
from local.services import Service

DISK_BYTES = 6 * 1024**3
MARKER = ".airloop-home"
"""Lies in every home that `up` made; `down` deletes no folder without it."""
KEPT = {"jdk", "package-cache", "source"}
"""Downloads: `down` leaves them, so that the next start needs no network."""
UNCLAIMED = ("secrets.json", "tmp")
"""All that asking for the environment makes in a home that was never up."""


def before_start(place: Place, programs: tuple[Service, ...], env: dict[str, str]) -> None:
    """All checks, quickest first.

    Raises:
        LocalError: naming what is wrong and what to do.
    """
    check_python()
    check_home(place.home)
    check_disk(place.home)
    for program in programs:
        check_port(program)
    check_java(env)


def check_python() -> None:
    """The running Python must be one that the locks were compiled for."""
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        raise LocalError(f"Airloop needs Python 3.11 to 3.13; this is {sys.version.split()[0]}. Run `make setup`.")


def check_home(home: Path) -> None:
    """The home does not exist yet, or is ours."""
    if home.exists() and not is_ours(home):
        raise LocalError(
            f"AIRLOOP_HOME={home} holds files that Airloop did not make, and `make down` would delete them; "
            f"set AIRLOOP_HOME to a new folder."
        )


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


def check_java(env: dict[str, str]) -> None:
    """JAVA_HOME must hold a Java that Spark 4 runs on."""
    home = env.get("JAVA_HOME", "")
    if not home or not os.access(Path(home) / "bin" / "java", os.X_OK):
        raise LocalError(f"Spark needs Java 17 or 21 and JAVA_HOME={home!r} holds none. {java.WAY_OUT}")
    if java.probe(Path(home) / "bin" / "java") is None:
        raise LocalError(
            f"The Java in JAVA_HOME={home!r} is not a complete 17 or 21, which Spark 4 needs. {java.WAY_OUT}"
        )
