"""The sweep: what lies in the store, in DVC's remote and cache and in the home, is old, and is not marked."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks.storage.artefacts import Facts, Store

DAY = 86400.0


@dataclass(frozen=True)
class Garbage:
    """One thing that nothing needs."""

    kind: str
    """What it is, for people."""
    name: str
    """Where it is."""
    bytes: int
    delete: Callable[[], None]


def of_names(kind: str, store: Store, listed: dict[str, Facts], chosen: Iterable[str]) -> Iterator[Garbage]:
    """The objects ``chosen`` of what is ``listed`` in ``store``."""
    for name in chosen:
        yield Garbage(kind, store.uri(name), listed[name].bytes, lambda name=name: store.delete(name))  # type: ignore[misc] # bound now, not when called


def of_folders(
    kind: str, store: Store, listed: dict[str, Facts], depth: int, gone: Callable[[str, float], bool]
) -> Iterator[Garbage]:
    """Folders of what is ``listed``, by the first ``depth`` parts of the names, of which ``gone`` (name, newest) says so."""
    groups: dict[str, list[Facts]] = defaultdict(list)
    for name, facts in listed.items():
        parts = name.split("/")
        if len(parts) > depth:
            groups["/".join(parts[:depth])].append(facts)
    for folder, facts_of in groups.items():
        if gone(folder, max(facts.written for facts in facts_of)):
            size = sum(facts.bytes for facts in facts_of)
            yield Garbage(kind, store.uri(folder), size, lambda folder=folder: store.delete_all(folder))  # type: ignore[misc] # likewise


def of_entries(kind: str, folder: Path, young: float, spared: Iterable[str] = ()) -> Iterator[Garbage]:
    """Files and folders directly in ``folder`` in which nothing was written since ``young``."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        size, newest = _measured(path)
        if newest < young and path.name not in spared:
            yield Garbage(kind, str(path), size, lambda path=path: _remove(path))  # type: ignore[misc] # likewise


def of_files(kind: str, folder: Path, young: float) -> Iterator[Garbage]:
    """Files at any depth below ``folder`` that were written before ``young``."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and (facts := path.stat()).st_mtime < young:
            yield Garbage(kind, str(path), facts.st_size, lambda path=path: path.unlink(missing_ok=True))  # type: ignore[misc] # likewise


def _measured(path: Path) -> tuple[int, float]:
    """Bytes that go with it, and when anything in it was last written. What the cache holds too costs nothing here."""
    size, newest = 0, 0.0
    for part in [path, *path.rglob("*")] if path.is_dir() and not path.is_symlink() else [path]:
        try:
            facts = part.lstat()
        except FileNotFoundError:
            continue  # somebody is at work there
        newest = max(newest, facts.st_mtime)
        size += facts.st_size if not part.is_dir() and facts.st_nlink == 1 else 0
    return size, newest


def _remove(path: Path) -> None:
    """Take it away in one step, so that whoever comes finds all of it or nothing, and then delete it."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    going = path.with_name(f".{path.name}.going")
    shutil.rmtree(going, ignore_errors=True)
    path.rename(going)
    shutil.rmtree(going, ignore_errors=True)
