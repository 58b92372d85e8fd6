"""What file systems differ in: hard links and syncing of folders, which exFAT, SMB, shared folders or FUSE may lack.

Why each stand-in is safe: docs/adr/0037.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

LACKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENOTTY}
"""How file systems say that they have no such operation: vfat and shared folders EPERM, SMB ENOTSUP, FUSE ENOSYS."""
NO_SYNC = LACKS | {errno.EACCES, errno.EBADF, errno.EISDIR}
"""Likewise of a folder, which some do not even open."""
NO_LINK = LACKS | {errno.EMLINK, errno.EXDEV}
LOCK = ".create.lock"
"""In the folder of what is created, where there are no hard links."""


def sync(file: IO[Any]) -> None:
    """Have what was written to ``file`` on the disk, as far as its file system can do that."""
    file.flush()
    _sync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Have a new name in ``folder`` on the disk as well: without this, a lost machine may know the content and not the name.

    A file system that cannot do it has done the write all the same, so that is no error.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        if error.errno in NO_SYNC:
            return
        raise
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


def put_if_absent(staged: Path, path: Path) -> bool:
    """Give the whole file ``staged`` the name ``path`` unless something has it; False when somebody was first.

    link(2) does it in one step. Without it, one process at a time looks and renames: a reader sees nothing or all of it,
    and what a killed process held is free again. Opening ``path`` with O_EXCL instead would show half an entry, and keep
    a killed one for ever.
    """
    try:
        os.link(staged, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in NO_LINK:
            raise
        return _renamed(staged, path)
    return True


def _renamed(staged: Path, path: Path) -> bool:
    with _alone(path.parent):
        if os.path.lexists(path):
            return False
        staged.rename(path)
    sync_folder(path.parent)
    return True


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the lock of ``folder``, which ends with this process at the latest; raises OSError where there are no locks."""
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o664)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise
