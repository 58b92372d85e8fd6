"""dvc.lock: what each stage of a project read and made, by digest."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tasks.core import fast_yaml
from tasks.storage.artefacts import write_atomic

LOCK = "dvc.lock"


def read_lock(root: Path) -> dict[str, Any]:
    """Stage to its entry in ``root``'s dvc.lock (read-only); empty when there is none."""
    path = root / LOCK
    return parse_lock(path.read_bytes()) if path.exists() else {}


def parse_lock(content: bytes) -> dict[str, Any]:
    """Stage to its entry (read-only) in the content of a dvc.lock."""
    return dict(_parsed(content))


@lru_cache(maxsize=2)
def _parsed(content: bytes) -> Mapping[str, Any]:
    """As ``parse_lock``: a span's stages read the same file seven times an interval, and it grows with the span."""
    return MappingProxyType(dict(fast_yaml.load(content)["stages"]))


def write_lock(root: Path, stages: dict[str, Any]) -> None:
    """Write ``root``'s dvc.lock with these entries."""
    write_atomic(root / LOCK, lock_bytes(stages))


def lock_bytes(stages: dict[str, Any]) -> bytes:
    """These entries as a dvc.lock."""
    return fast_yaml.dump({"schema": "2.0", "stages": stages}).encode()
