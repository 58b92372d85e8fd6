"""The measurement of growth runs on a small store, and says what it should."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import growth
from bench.home import bare_home
from tasks.core.urls import url_of
from tasks.landing import landed_index
from tasks.settings.environment import environment
from tasks.storage.artefacts import Store
from tests.serving.world import World


@pytest.fixture
def source(tmp_path: Path) -> Store:
    """January and February have landed, v1 is live."""
    world = World(Store(url_of(tmp_path / "source")).part("flights"))
    world.land("2013-01")
    world.land("2013-02")
    world.promote(1, 1.0)
    return world.store


@pytest.fixture
def home(tmp_path: Path) -> Iterator[None]:
    """A home that this process's environment names, as it does for the benchmarks."""
    before = dict(os.environ)
    with bare_home(tmp_path / "home"):
        yield
    os.environ.clear()
    os.environ.update(before)
    environment.cache_clear()


def test_each_size_is_measured_and_compared(source: Store, home: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "POLLS", 2)
    rows = {row.name: row for row in growth.compare(source, (12, 60), 1)}
    kept = "intervals that the service keeps"
    assert rows[f"{kept}, 12"].values == rows[f"{kept}, 60"].values == (5,), "three golden ones and two"
    for name in (
        "open an interval's run",
        "open a run that looks back",
        "open a run with all history",
        "the service's poll",
    ):
        assert rows[f"{name}, 60"].unit == "ms" and rows[f"{name}, 12"].more["ratio"] == 1
    assert len(rows["land an interval, 60"].values) == growth.LANDINGS
    assert rows["the Airflow page's data, 60"].note.endswith("times 12")


def test_made_up_intervals_are_an_index_s(source: Store, tmp_path: Path) -> None:
    grown = growth.grow(source, tmp_path / "grown", 60)
    index = landed_index.read(grown.store)
    assert [item.interval for item in index] == grown.keys and len(index) == 60
    assert index.head.chunks and index.content is not None
    assert all(item.used == index[item.previous].tail for item in index if item.previous != item.interval)
