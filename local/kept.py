"""What a backup holds: the parts of a home that cannot be made again, in the order in which they are copied.

A part that names others is copied before them: what a ledger entry, a landed interval or a run's record names was written before it
was named, and is never changed, so a copy taken later holds it (docs/adr/0046).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from local.errors import LocalError
from tasks.core import disk
from tasks.core.model_names import SHARED
from tasks.core.urls import path_of
from tasks.landing import landed_index

MANIFEST = "backup.json"
LOCK = "keeping.lock"
"""In the home's scratch folder: held by whoever backs up, restores or cleans up."""
SCHEMA = 1
FIRST = ("ledger", "versions", "registry", "landed", "requests", "decisions", "runs")
"""Folders of a model's part of the store that name others, in this order; after them all others."""
MADE_AGAIN = {landed_index.FOLDER}
"""Folders of it that are left out: made again from the rest, and a copy from another moment would lack an interval for ever."""
BLOCK = 1 << 20
SAY_SECONDS = 5.0


class Content(NamedTuple):
    """What a file must hold."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Part:
    """One folder, or file, and its name in a backup."""

    name: str
    path: Path


def parts(home: Path, env: dict[str, str]) -> list[Part]:
    """The parts in their order.

    Raises:
        LocalError: one is not a folder of this machine.
    """
    folders = {"store": "AIRLOOP_STORE", "remote": "AIRLOOP_DVC_REMOTE", "landing": "AIRLOOP_LANDING"}
    found = [Part(name, _folder(variable, env[variable])) for name, variable in folders.items()]
    return [*found, Part("mlflow", home / "mlflow" / "artifacts"), Part("secrets.json", home / "secrets.json")]


def files(part: Part) -> Iterator[tuple[str, Path]]:
    """Names in the backup and paths of a part's files, those that name others first; unfinished writes are left out."""
    if part.path.is_file():
        yield part.name, part.path
        return
    tops = sorted(part.path.iterdir()) if part.path.is_dir() else []
    if part.name == "store":
        tops = _in_order(tops)
    for top in tops:
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.is_file() and not _unfinished(path):
                yield f"{part.name}/{path.relative_to(part.path).as_posix()}", path


def _in_order(models: list[Path]) -> list[Path]:
    """The folders in those of the store's models: what names others before what it names, and what all share last.

    What is made again is left out.
    """
    shared = [path for path in models if path.name in SHARED]
    own = [path for model in models if model not in shared and model.is_dir() for path in sorted(model.iterdir())]
    own = [path for path in own if path.name not in MADE_AGAIN]
    order = {name: number for number, name in enumerate(FIRST)}
    return [*sorted(own, key=lambda path: order.get(path.name, len(order))), *shared]


def _unfinished(path: Path) -> bool:
    return path.name.startswith(".") and path.suffix in {".partial", ".lock"}


def _folder(variable: str, value: str) -> Path:
    folder = path_of(value)
    if folder is None:
        raise LocalError(
            f"{variable}={value} is not on this machine, and this copies and restores folders of one machine only. Use the "
            "bucket's own versions and copies: docs/runbook.md says what and in which order."
        )
    return folder


def copy(source: Path, target: Path) -> Content:
    """Copy a file to a new place; returns what it held."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    with source.open("rb") as read, target.open("xb") as write:
        while block := read.read(BLOCK):
            write.write(block)
            digest.update(block)
            size += len(block)
    return Content(size, digest.hexdigest())


def measure(path: Path) -> Content:
    """What a file holds."""
    with path.open("rb") as file:
        return Content(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


def write_manifest(folder: Path, found: dict[str, Content], made: dict[str, str]) -> None:
    """Say what the backup at ``folder`` holds; written last, since a backup without it is not whole."""
    content = {"schema": SCHEMA, **made, "files": {name: file._asdict() for name, file in found.items()}}
    with (folder / MANIFEST).open("w") as file:
        json.dump(content, file, indent=1, sort_keys=True)
        disk.sync(file)


def read_manifest(folder: Path) -> dict[str, Content]:
    """The files of the backup at ``folder``.

    Raises:
        LocalError: it is no backup, or not a whole one.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        schema = manifest["schema"]
        found = {name: Content(**file) for name, file in manifest["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise LocalError(f"{folder} is no whole backup: it has no {MANIFEST} that says what it holds.") from None
    if schema != SCHEMA:
        raise LocalError(
            f"{folder} was made by another version of Airloop (schema {schema}); restore it with that one."
        )
    return found


class Progress:
    """One line for each part that is done, and for a long one every few seconds."""

    def __init__(self) -> None:
        self._said = time.monotonic()

    def at_work(self, what: str, done: list[Content]) -> None:
        """Say so now and then."""
        if time.monotonic() - self._said > SAY_SECONDS:
            self.done(f"{what} so far", done)

    def done(self, what: str, done: list[Content]) -> None:
        """Say it."""
        size = sum(file.bytes for file in done)
        print(f"  {what:<22}{len(done):>7,} files {size / 1e6:12,.1f} MB", flush=True)
        self._said = time.monotonic()


@contextmanager
def alone(home: Path) -> Iterator[None]:
    """Nobody else backs up, restores or cleans up this home meanwhile.

    Raises:
        LocalError: somebody does.
    """
    (home / "tmp").mkdir(parents=True, exist_ok=True)
    with (home / "tmp" / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise LocalError(
                f"A backup, a restore or a clean-up of {home} is at work; wait until it is done."
            ) from None
        yield
