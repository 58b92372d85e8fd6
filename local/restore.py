"""`airloop restore FOLDER`: a backup into an empty home, every file checked before any of it is in place."""

from __future__ import annotations

import shutil
from pathlib import Path

from local import checks, databases, kept, processes
from local.env import environment, place
from local.errors import LocalError
from local.kept import Content, Part


def restore(source: Path) -> None:
    """Put the backup at ``source`` into this home.

    Raises:
        LocalError: the home is in use or not empty, or the backup is damaged; then the home is as it was.
    """
    home = place().home
    expected = kept.read_manifest(source)
    check_unused(home)
    parts = kept.parts(home, environment())
    check_empty(home, parts)
    with kept.alone(home):
        staged = home / "tmp" / "restoring"
        shutil.rmtree(staged, ignore_errors=True)
        try:
            _stage(source, staged, expected)
            _put_all(home, parts, staged)
        except OSError as error:
            raise LocalError(f"The backup could not be restored to {home}: {error}.") from None
        finally:
            shutil.rmtree(staged, ignore_errors=True)
    print(
        f"Restored to {home}. `airloop up` starts it; `airloop heal` then makes MLflow and the service agree with the ledger."
    )


def check_unused(home: Path) -> None:
    """Nothing of this home runs.

    Raises:
        LocalError: something does.
    """
    if found := processes.ours(home):
        raise LocalError(
            f"{len(found)} processes of {home} run; a restore needs a home that is not used: `airloop down` first."
        )


def check_empty(home: Path, parts: list[Part]) -> None:
    """Nothing is there that a restore could mix with, or write over.

    Raises:
        LocalError: naming what there is.
    """
    left = {*checks.KEPT, *checks.UNCLAIMED}
    there = [entry for entry in home.iterdir() if entry.name not in left] if home.exists() else []
    there += [part.path for part in parts if part.path.is_dir() and any(part.path.iterdir())]
    if there:
        raise LocalError(
            f"{there[0]} is there already, and a restore never mixes two homes. Set AIRLOOP_HOME to a new folder, or empty this "
            "one with `airloop delete`."
        )


def _stage(source: Path, staged: Path, expected: dict[str, Content]) -> None:
    progress, done = kept.Progress(), []
    for name, content in expected.items():
        path = source / name
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise LocalError(f"{source / kept.MANIFEST} names {name}, which lies outside the backup; do not use it.")
        found = kept.copy(path, staged / name) if path.is_file() else None
        if found != content:
            how = "is missing" if found is None else "is not what was written: its sha256 differs"
            raise LocalError(f"The backup is damaged: {path} {how}. Nothing was restored; take another backup.")
        done.append(found)
        progress.at_work("checked", done)
    progress.done("checked and copied", done)


def _put_all(home: Path, parts: list[Part], staged: Path) -> None:
    """All parts are in their places, or none is."""
    (staged / "secrets.json").chmod(0o600)
    try:
        databases.put_back(home, staged / "databases")
        for part in parts:
            _put(staged / part.name, part.path)
        (home / checks.MARKER).touch()
    except BaseException:
        databases.delete(home)
        for part in parts:
            shutil.rmtree(part.path, ignore_errors=True)
        raise


def _put(staged: Path, path: Path) -> None:
    """Move a part to its place, which may be on another disk; one that was empty is an empty folder."""
    if not staged.exists():
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        path.rmdir()
    shutil.move(staged, path)
