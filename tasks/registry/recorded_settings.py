"""The settings that a version's training had, as its record in the store has them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from tasks.registry import versions
from tasks.settings import settings_files
from tasks.storage.artefacts import Store


def read(version: int, run: str, source: Store, model: str) -> tuple[str, dict[str, Any]] | None:
    """Read the file that holds the model's sections.

    Args:
        version: the version's number.
        run: its training run, whose record is read where the version has none of its own.
        source: the model's part of the store.
        model: the model's name.

    Returns:
        Where the file is, and its sections; None where the store has no record of them.
    """
    for name, digest in _files(version, run, source, model):
        try:
            content = yaml.safe_load(source.read(name, digest))
        except FileNotFoundError:
            continue
        return source.uri(name), content if isinstance(content, dict) else {}
    return None


def _files(version: int, run: str, source: Store, model: str) -> Iterator[tuple[str, str | None]]:
    """Files that may hold the settings, with their digests where these are known; an older record has params.yaml alone."""
    names = (settings_files.of_model(model), settings_files.SHARED)
    found = versions.find(source, version)
    if found is not None and found.record is not None:
        yield from ((found.file(name), found.settings[name]) for name in names if name in found.settings)
    yield from ((f"runs/{run}/{name}", None) for name in names)
