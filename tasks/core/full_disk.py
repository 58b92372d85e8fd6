"""What an error says of a disk that takes no more, and which folder that is: for one sentence in place of a traceback."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

WORDS = {
    errno.ENOSPC: ("is full", ("No space left on device", "database or disk is full", "not enough space")),
    errno.EDQUOT: ("is over its quota", ("Disk quota exceeded",)),
    errno.EFBIG: (
        "takes no file of that size: it, or a limit of this user (`ulimit -f`), forbids it",
        ("File too large",),
    ),
    errno.EROFS: ("cannot be written to: it is mounted read-only", ("Read-only file system", "readonly database")),
}
"""Error number to what is wrong, and how libraries (the JVM, SQLite, Arrow) put it that hand no number on."""


def no_space(error: BaseException) -> str | None:
    """A sentence on the full or read-only disk that is behind ``error``; None where it is about something else."""
    for each in _chain(error):
        for number, (what, words) in WORDS.items():
            if getattr(each, "errno", None) == number or any(word in str(each) for word in words):
                where = _folder(getattr(each, name, None) for name in ("filename2", "filename"))
                return (
                    f"{where} {what} ({_free(where)} free). Nothing half-written is left. Make space there, "
                    "then run this again: it goes on from here."
                )
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        yield following
        following = following.__cause__ or following.__context__


def _folder(names: Iterable[object]) -> Path:
    """Of the folders that the error names the one with the least space; of all we write to where it names none."""
    named = [Path(os.fspath(name)) for name in names if isinstance(name, str | os.PathLike) and name]
    return min(map(_existing, named or _written_to()), key=lambda folder: shutil.disk_usage(folder).free)


def _written_to() -> Iterator[Path]:
    yield Path.cwd()
    yield Path(tempfile.gettempdir())
    from tasks.core.urls import path_of
    from tasks.settings.environment import environment  # which needs the errors that need this module

    where = environment()
    for url in (str(where.home), where.store_url, where.remote_url, str(where.cache_dir)):
        if (path := path_of(url)) is not None:
            yield path


def _existing(path: Path) -> Path:
    path = path.absolute()
    while not path.is_dir():
        path = path.parent
    return path


def _free(folder: Path) -> str:
    usage = shutil.disk_usage(folder)
    return f"{usage.free / 2**20:,.1f} of {usage.total / 2**20:,.0f} MiB"
