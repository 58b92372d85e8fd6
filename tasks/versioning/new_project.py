"""A folder becomes a DVC project."""

from __future__ import annotations

import io
import os
from pathlib import Path

from configobj import ConfigObj
from dvc.config import Config
from dvc.exceptions import DvcException

from tasks.core.errors import ConfigError
from tasks.core.urls import path_of

DVC_RUNNING = ".dvc/tmp/rwlock"
"""Which processes read or write which paths of a project."""


def initialise(root: Path, *, cache: Path, remote: str, site_cache: Path) -> None:
    """Make ``root`` a DVC project without git, on a shared cache and remote, leaving nothing outside ``site_cache``."""
    for name in (str(cache), remote, str(site_cache)):
        if set(name) & set("{}"):
            raise _unfit(name, "its progress messages take { for a placeholder")
        if os.path.expandvars(name) != name:
            raise _unfit(name, "its databases put a variable's value in")
    folder, local = root / ".dvc", path_of(remote)
    folder.mkdir(exist_ok=True)
    settings = {
        "core": {
            "no_scm": "true",
            "analytics": "false",
            "check_update": "false",
            "remote": "airloop",
            "site_cache_dir": str(site_cache),
        },
        # Links spare a copy of the data for each run; stages replace files, they never write into one.
        "cache": {"dir": str(cache), "type": "reflink,hardlink,symlink,copy"},
        'remote "airloop"': {"url": remote if local is None else str(local)},
    }
    written = io.BytesIO()
    try:
        # By the library that DVC reads it with: it knows when %, #, commas and quotes in a path want quotes. Not by DVC's
        # own `Config.edit`, which writes ASCII only.
        ConfigObj(settings, encoding="utf-8", interpolation=False).write(written)
        (folder / "config").write_bytes(written.getvalue())
        # A stage may depend on a folder of code, in which Python keeps what it has compiled.
        (root / ".dvcignore").write_text("__pycache__\n", encoding="utf-8")
        Config(str(folder))
    except (DvcException, SyntaxError) as error:  # configobj's errors are SyntaxErrors
        raise _unfit(f"{cache}, {remote} or {site_cache}", str(error)) from None


def _unfit(what: str, why: str) -> ConfigError:
    return ConfigError(
        f"DVC cannot work in {what} ({why}); set AIRLOOP_HOME, AIRLOOP_DVC_CACHE and AIRLOOP_DVC_REMOTE to folders "
        "without `{`, `}`, `%(`, three quotes in a row and the $NAME of a variable in their names."
    )
