"""The prediction log over many segments, with a store that fails now and then: every id leads to its own line."""

from __future__ import annotations

import asyncio
import random
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from models.flights.model import MODEL
from models.flights.request import FlightRequest
from serving import log
from serving.live import Live, Loader, Prediction, predict
from tasks.core.errors import DataError
from tasks.core.urls import url_of
from tasks.online import prediction_log
from tasks.storage.artefacts import Store
from tests.serving.world import CODE, FLIGHT, World


@pytest.fixture
def live(world: World) -> Live:
    return Loader(MODEL, world.store, CODE).load(Live())


def some(live: Live, flights: int) -> tuple[list[FlightRequest], list[Prediction]]:
    requests = [FlightRequest.model_validate(FLIGHT | {"flight": n + 1}) for n in range(flights)]
    return requests, predict(live, [r.to_entity() for r in requests])


@pytest.mark.parametrize("seed", range(4))
def test_every_line_is_found_whatever_fails_in_between(world: World, live: Live, monkeypatch, seed):
    pick = random.Random(seed)
    monkeypatch.setattr(log, "SEGMENT_LINES", 7)
    monkeypatch.setattr(log, "SEGMENT_SECONDS", 1e-4 if seed % 2 else 300)
    writer, real, expected = log.PredictionLog("flights", world.store), Store.write, {}

    def sometimes(self, name, data):
        if pick.random() < 0.4:
            raise OSError(28, "No space left on device")
        return real(self, name, data)

    monkeypatch.setattr(Store, "write", sometimes)
    for _ in range(60):
        requests, predictions = some(live, pick.randint(1, 5))
        expected |= dict(zip(writer.add(requests, predictions, live), requests, strict=True))
        if pick.random() < 0.7:
            with suppress(OSError):
                writer.flush()
    monkeypatch.setattr(Store, "write", real)
    writer.flush()
    assert writer.waiting == writer.lost == 0
    for name, request in expected.items():
        found = prediction_log.find(world.store, name)
        assert found is not None
        assert (found["flight"], found["prediction_id"]) == (request.flight, name)
    lines = [world.store.read(n).count(b"\n") for n in world.store.names("online") if n.endswith(".jsonl")]
    assert sum(lines) == len(expected)
    assert max(lines) <= 30


def test_threads_share_the_log(world: World, live: Live, monkeypatch):
    monkeypatch.setattr(log, "SEGMENT_LINES", 50)
    writer, ids = log.PredictionLog("flights", world.store), []

    def work():
        for _ in range(50):
            ids.extend(writer.add(*some(live, 3), live))
            writer.flush()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(ids)) == 600
    assert all(prediction_log.find(world.store, name) for name in ids[::29])


def test_a_store_that_never_works_costs_the_oldest_lines_and_says_so(world: World, live: Live, monkeypatch):
    monkeypatch.setattr(log, "SEGMENT_LINES", 10)
    monkeypatch.setattr(log, "MAX_WAITING", 50)

    def never(self, name, data):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Store, "write", never)
    writer = log.PredictionLog("flights", world.store)
    for _ in range(20):
        writer.add(*some(live, 10), live)
        with suppress(OSError):
            writer.flush()
    assert writer.waiting <= 50
    assert writer.lost + writer.waiting == 200


def test_ids_that_are_none(tmp_path: Path):
    store = Store(url_of(tmp_path))
    absent = prediction_log.prediction_id("flights", "2026-11-22", 3, "0123abcd", 1, 2)
    assert prediction_log.find(store, absent) is None
    for wrong in (
        "flights.2013-04.v1.0123456789abcdef",
        "online.2026-11-22.v1." + "0" * 24,
        "flights.online.2026-11-22.v1.xyz",
        absent + "0",
        "../" + absent,
    ):
        with pytest.raises(DataError, match="not the id of an online prediction"):
            prediction_log.find(store, wrong)


def test_what_is_added_while_a_write_is_slow_is_not_held_up(world: World, live: Live, monkeypatch):
    writer, real, going = log.PredictionLog("flights", world.store), Store.write, threading.Event()

    def slow(self, name, data):
        assert going.wait(10)
        return real(self, name, data)

    monkeypatch.setattr(Store, "write", slow)

    async def go():
        writer.add(*some(live, 1), live)
        flush = asyncio.create_task(asyncio.to_thread(writer.flush))
        await asyncio.sleep(0.1)
        second = writer.add(*some(live, 1), live)  # returns though the write has not
        going.set()
        await flush
        await asyncio.to_thread(writer.flush)
        return second

    with asyncio.Runner() as runner:
        (second,) = runner.run(go())
    assert prediction_log.find(world.store, second) is not None
