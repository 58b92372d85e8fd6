"""Lists of files by digest: a stage depends on the list, one small file, and reads the files that it names.

DVC does more work with each stage and dependency that it has to know; a list names any number of files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from tasks.core.errors import DataError

FOLDER = "data/lists"
"""Folder of the lists in a workspace: JSON, path to md5."""


def digest(data: bytes) -> str:
    """The digest of a file as DVC has it."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def is_list(path: str) -> bool:
    """Whether ``path``, which a stage depends on, names further files that the stage reads."""
    return path.startswith(f"{FOLDER}/")


def read(path: str, root: Path) -> dict[str, str]:
    """Path to digest of each file that the dependency ``path`` names; none where it is no list.

    Raises:
        DataError: the list is not there, or is damaged.
    """
    if not is_list(path):
        return {}
    try:
        found = json.loads((root / path).read_bytes())
    except FileNotFoundError:
        raise DataError(f"{(root / path).resolve()} is missing; run `airloop repro`, which makes it.") from None
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise DataError(f"{(root / path).resolve()} lists no files; delete it and run `airloop repro`.")
    return found


def require(files: Mapping[str, str], root: Path) -> None:
    """Raise DataError unless each file has the content that was listed."""
    for path, expected in files.items():
        file = root / path
        if not file.is_file() or digest(file.read_bytes()) != expected:
            raise DataError(
                f"{file.resolve()} is not the file that was listed (md5 {expected}); run `airloop repro` from an interval "
                "before it on."
            )
