"""Fixtures of the online service's tests; what they are made of is in world.py."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.core.urls import url_of
from tasks.storage.artefacts import Store
from tests.serving.world import World


@pytest.fixture
def empty(tmp_path: Path) -> World:
    """A store in which nothing has happened."""
    return World(Store(url_of(tmp_path / "store")).part("flights"))


@pytest.fixture
def world(empty: World) -> World:
    """January and February have landed, v1 is live."""
    empty.land("2013-01")
    empty.land("2013-02")
    empty.promote(1, 1.0)
    return empty


@pytest.fixture
def run() -> Iterator[Callable[[object], object]]:
    """Runs a coroutine to its end in one event loop a test."""
    with asyncio.Runner() as runner:
        yield runner.run  # type: ignore[misc]  # it takes any coroutine
