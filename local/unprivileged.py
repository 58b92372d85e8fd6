"""Gives up root for a program that refuses to run as root, without a new user and without changing any folder's permissions.

The process becomes `nobody`, or whoever owns the program's data, and keeps one capability: to pass folders that only root may
enter. So a home in /root or under umask 077 works as it is.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import sys
from pathlib import Path

from local.errors import LocalError

# From Linux's prctl.h and capability.h.
PR_SET_KEEPCAPS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 8, 47, 2
CAP_DAC_OVERRIDE, CAPABILITY_VERSION_3 = 1, 0x20080522


def become_owner(data: Path) -> None:
    """Goes on as the owner of ``data``, or as `nobody` where that is root or not there yet; does nothing unless it runs as root.

    Raises:
        LocalError: the system does not let it.
    """
    if os.geteuid() != 0:
        return
    try:
        if sys.platform != "linux":
            raise OSError("only Linux has the capabilities for it")  # noqa: TRY301 - one sentence for every cause
        _become(_owner(data))
    except (OSError, KeyError, AttributeError) as error:
        raise LocalError(
            f"PostgreSQL does not run as root, and root cannot give its rights up here ({error}); run Airloop as an ordinary user."
        ) from None


def _owner(data: Path) -> pwd.struct_passwd:
    found = data.stat().st_uid if data.exists() else 0
    return pwd.getpwuid(found) if found else pwd.getpwnam("nobody")


def _become(user: pwd.struct_passwd) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0))
    os.setgroups([])
    os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
    os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    kept = 1 << CAP_DAC_OVERRIDE
    effective_permitted_inheritable = (ctypes.c_uint32 * 6)(kept, kept, kept, 0, 0, 0)
    _check(libc.capset(ctypes.byref(header), ctypes.byref(effective_permitted_inheritable)))
    _check(libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE, 0, 0))


def _check(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
