"""Short folders of this home: for unix sockets, supervisord's and PostgreSQL's, and for copies of programs."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
from pathlib import Path

from local.errors import LocalError

LONGEST_NAME = "/supervisor.sock.4194304"
"""supervisord first makes its socket with its process id appended; PostgreSQL's name is shorter."""
MAX_BYTES = 103
"""A unix socket's path holds 103 bytes on macOS, 107 on Linux."""
PLAIN = re.compile(r"[A-Za-z0-9._/-]+")
"""What needs no escape in a URL, in supervisord.conf or in a list of PostgreSQL's settings."""


def folder(home: Path) -> Path:
    """``run`` in the home, or a private folder in /tmp where the home's path is too long or has other letters than PLAIN.

    It is the same for everybody who asks, whatever their TMPDIR is.
    """
    near = home / "run"
    if len(os.fsencode(near)) + len(LONGEST_NAME) <= MAX_BYTES and PLAIN.fullmatch(str(near)):
        return near
    return _in_tmp(home)


def copies(home: Path) -> Path:
    """A folder in /tmp for copies of PostgreSQL's programs (local/postgres_programs.py), which everybody may read."""
    return _in_tmp(home).with_suffix(".programs")


def make(home: Path) -> Path:
    """Makes the folder of sockets, for its owner only.

    Raises:
        LocalError: somebody else was there first.
    """
    return _make(folder(home), 0o700)


def make_copies(home: Path) -> Path:
    """Makes the folder of copies, which only its owner may change.

    Raises:
        LocalError: somebody else was there first.
    """
    return _make(copies(home), 0o755)


def delete(home: Path) -> None:
    """Deletes what of the two lies in /tmp."""
    for made in {folder(home), copies(home)} - {home / "run"}:
        shutil.rmtree(made, ignore_errors=True)


def _in_tmp(home: Path) -> Path:
    name = hashlib.sha256(os.fsencode(home)).hexdigest()[:12]
    return Path(os.sep, "tmp") / f"airloop-{os.getuid()}-{name}"


def _make(made: Path, mode: int) -> Path:
    made.mkdir(parents=True, exist_ok=True, mode=mode)
    found = made.lstat()
    if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode):
        raise LocalError(f"{made} belongs to another user; set AIRLOOP_HOME to a shorter path of plain letters.")
    made.chmod(mode)
    return made
