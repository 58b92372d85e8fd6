"""`delete`: a home's data go, after a question that says what and how much; stopping never deletes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from local import checks, question, runtime, stack
from local.env import place


def delete(*, sure: bool, again: str = "airloop delete") -> None:
    """Stop this home's services and delete what they kept; ask first unless ``sure``.

    Args:
        sure: delete without a question.
        again: the command that did this, for the way out.

    Raises:
        LocalError: the folder holds what Airloop did not make, or there is no terminal to ask at.
    """
    home = place().home
    if not home.exists():
        print(f"There is nothing to delete: {home} is not there.")
        return
    checks.check_home(home)
    if not sure and not question.confirmed(_listing(home), again):
        print("Nothing was deleted.")
        return
    stack.down()
    empty(home)
    print(f"Deleted what was in {home}.")


def empty(home: Path) -> None:
    """Delete all in the home but what is kept, and the home where nothing is."""
    runtime.delete(home)
    if not home.exists() or not checks.is_ours(home):
        return
    for entry in _doomed(home):
        _remove(entry)
    if not any(home.iterdir()):
        home.rmdir()


def size(entry: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    if entry.is_symlink() or not entry.is_dir():
        return entry.lstat().st_size
    return sum((Path(top) / name).lstat().st_size for top, _, names in os.walk(entry) for name in names)


def _doomed(home: Path) -> list[Path]:
    return sorted(entry for entry in home.iterdir() if entry.name not in checks.KEPT)


def _listing(home: Path) -> list[str]:
    sizes = {entry.name: size(entry) for entry in _doomed(home)}
    kept = sorted(entry.name for entry in home.iterdir() if entry.name in checks.KEPT)
    return [
        f"In {home}:",
        *(f"  {name:<22}{amount / 1e6:10,.1f} MB" for name, amount in sizes.items()),
        f"  {'together':<22}{sum(sizes.values()) / 1e6:10,.1f} MB",
        *([f"What stays: {', '.join(kept)}."] if kept else []),
    ]


def _remove(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink(missing_ok=True)
