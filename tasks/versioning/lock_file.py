"""dvc.lock: what each stage of a project read and made, by digest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.core import fast_yaml
from tasks.storage.artefacts import write_atomic

LOCK = "dvc.lock"


def read_lock(root: Path) -> dict[str, Any]:
    """Stage to its entry in ``root``'s dvc.lock; empty when there is none."""
    path = root / LOCK
    return dict(fast_yaml.load(path.read_text())["stages"]) if path.exists() else {}


def write_lock(root: Path, stages: dict[str, Any]) -> None:
    """Write ``root``'s dvc.lock with these entries."""
    write_atomic(root / LOCK, lock_bytes(stages))


def lock_bytes(stages: dict[str, Any]) -> bytes:
    """These entries as a dvc.lock."""
    return fast_yaml.dump({"schema": "2.0", "stages": stages}).encode()
