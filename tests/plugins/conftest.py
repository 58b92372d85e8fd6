"""These tests import Airflow; `context` stands for what it gives a task at run time."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import pytest

from tests.airflow_home import use

use()
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import starlette.testclient  # noqa: F401 - warns, once, of a successor of httpx that is not released for what we use

from airloop.model import find  # noqa: E402 - after `use`

from tasks.landing import landed  # noqa: E402 - after `use`
from tasks.registry.ledger import Evidence  # noqa: E402 - after `use`
from tasks.storage.artefacts import Store  # noqa: E402 - after `use`

FLIGHTS = find("flights")
EVIDENCE = Evidence(
    model="a" * 64,
    contract="b" * 64,
    run="flights-train-2013-03-x",
    data_through="2013-03",
    labelled_through="2013-03",
    verdict=None,
    policy=None,
)


def land(store: Store, interval: str, counts: dict[str, Any]) -> None:
    """A landed interval with these counts."""
    record = landed.Landed(
        interval=interval, previous=interval, run="r", manifest="m", features="f", counts=counts, lock={}, state={}
    )
    landed.write(store, record)


class Events:
    """One asset's outlet events, as a task sees them."""

    def __init__(self) -> None:
        self.extra: dict[str, Any] = {}
        self.partitions: list[str] = []

    def add_partitions(self, keys: list[str]) -> None:
        self.partitions += keys


class OutletEvents(dict[Any, Events]):
    """Makes an entry for an asset when it is asked for, as Airflow does."""

    def __missing__(self, asset: Any) -> Events:
        return self.setdefault(asset.name, Events()) if not isinstance(asset, str) else Events()


def make_context(
    dag_id: str = "flights.train",
    *,
    partition_key: str | None = "2013-04",
    params: dict[str, Any] | None = None,
    **run: Any,
) -> dict[str, Any]:
    """A task's context, as far as plugins/ reads it."""
    defaults = {
        "run_id": "asset_triggered__2026-11-22T03:50:08.235039+00:00_tNsTWYuP",
        "data_interval_start": None,
        "data_interval_end": None,
        "triggering_user_name": None,
    }
    return {
        "dag_run": SimpleNamespace(dag_id=dag_id, partition_key=partition_key, **{**defaults, **run}),
        "params": params or {},
        "outlet_events": OutletEvents(),
    }


@pytest.fixture
def context() -> Any:
    return make_context
