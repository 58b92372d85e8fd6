"""DVC's run cache, read beside others that write to it.

DVC writes an entry beside its place and moves it there. While it does so, another process that looks for the newest entry takes the
unfinished file for it, finds it damaged and deletes it, and both fail.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dvc.fs import generic
from dvc.stage import Stage
from dvc.stage.cache import StageCache, _get_cache_hash
from dvc.stage.serialize import to_single_stage_lockfile

UNFINISHED = ".tmp"
"""Ending of the file that DVC moves to its place."""


class RunCache(StageCache):
    """The run cache, in which only finished entries are seen."""

    def newest(self, stage: Stage) -> dict[str, Any] | None:
        """The newest entry on ``stage`` with its command, inputs, settings and names of outputs."""
        key = key_of(stage)
        folder = Path(self._get_cache_dir(key)) if key else None
        entries = [path for path in folder.iterdir() if path.suffix != UNFINISHED] if folder and folder.exists() else []
        if not entries:
            return None
        found: dict[str, Any] | None = self._load_cache(key, max(entries, key=_written).name)
        return found

    _load = newest


def _written(path: Path) -> float:
    """When the entry was written; 0 where it went meanwhile, which counts as none."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def key_of(stage: Stage) -> str | None:
    """What the run cache knows the stage by: command, inputs, settings and names of outputs; None if it never does."""
    if stage.is_callback or stage.always_changed:
        return None
    return str(_get_cache_hash(to_single_stage_lockfile(stage), key=True))


def copy(stage: Stage, source: Any, target: Any) -> None:
    """Copy the entries on a stage from one place to another, which has them whole or not at all.

    Args:
        stage: with the digests of its inputs.
        source: DVC's object database that has the run cache, here or of a remote.
        target: likewise.
    """
    key = key_of(stage)
    if key is None or not source.fs.exists(folder := source.fs.join(source.path, "runs", key[:2], key)):
        return
    for path in source.fs.find(folder):
        place = target.fs.join(target.path, "runs", key[:2], key, source.fs.name(path))
        if not path.endswith(UNFINISHED) and not target.fs.exists(place):
            target.fs.makedirs(target.fs.parent(place), exist_ok=True)
            generic.copy(source.fs, path, target.fs, place)
