"""What may become live: only what is verified and has answered; everything else is refused and said."""

from __future__ import annotations

import asyncio

import pytest

from tasks.core.urls import path_of
from tasks.landing import landed
from tasks.registry import ledger
from tasks.storage.artefacts import Store
from tests.serving.world import FLIGHT, World, make_flights


def spoil(world: World, name: str, how: str) -> None:
    data = bytearray(world.store.read(name))
    if how == "flip a bit":
        data[len(data) // 2] ^= 1
    elif how == "cut short":
        data = data[: len(data) // 2]
    world.store.write(name, bytes(data))


def sync_after(world: World, run, change):
    """(status and body of /-/sync, readyz, predict, metrics) after ``change`` was made under a running service."""

    async def go():
        async with world.client() as client:
            await asyncio.to_thread(change)
            synced = await client.post("/-/sync/flights")
            ready, predicted = (
                await client.get("/models/flights/ready"),
                await client.post("/models/flights/predict", json=FLIGHT),
            )
            return synced, ready, predicted, (await client.get("/metrics")).text

    return run(go())


@pytest.mark.parametrize("how", ["flip a bit", "cut short", "another model's file", "remove", "contract"])
def test_a_model_that_fails_verification_never_replaces_the_live_one(world: World, run, how):
    def change():
        digest = world.promote(2, 2.0)
        name = f"models/{digest}/{'contract.json' if how == 'contract' else 'model.onnx'}"
        if how == "remove":
            path_of(world.store.uri(name)).unlink()
        elif how == "another model's file":
            other = world.put_model(5.0)
            world.store.write(name, world.store.read(f"models/{other.model}/model.onnx"))
        elif how == "contract":  # valid in itself, with other codes
            world.store.write(name, world.store.read(name).replace(b'"AA"', b'"AB"'))
        else:
            spoil(world, name, how)

    synced, ready, predicted, metrics = sync_after(world, run, change)
    assert synced.status_code == 503
    assert ready.status_code == 200
    assert ready.json()["model_version"] == 1
    assert "v2 is refused: " in ready.json()["problems"]["model"]
    assert predicted.json()["predictions"][0]["model_version"] == 1
    assert 'airloop_online_load_errors_total{model="flights",what="model"} 1.0' in metrics


def test_a_model_with_a_feature_the_service_cannot_make_is_refused(world: World, run):
    synced, ready, _, _ = sync_after(world, run, lambda: world.promote(2, 1.0, features=("carrier", "hour", "moon")))
    assert synced.status_code == 503
    said = ready.json()["problems"]["model"]
    assert said.startswith("v2 is refused: v2 needs moon, which models/flights does not compute.")
    assert ready.json()["model_version"] == 1


def test_a_model_that_answers_no_probability_is_refused(world: World, run):
    synced, ready, predicted, _ = sync_after(world, run, lambda: world.promote(2, float("nan")))
    assert synced.status_code == 503
    assert "no probability" in ready.json()["problems"]["model"]
    assert predicted.json()["predictions"][0]["model_version"] == 1


def test_a_model_that_does_not_answer_its_golden_rows_is_refused(world: World, run):
    synced, ready, predicted, _ = sync_after(world, run, lambda: world.promote(2, 2.0, expected=0.5))
    assert synced.status_code == 503
    assert ready.json()["problems"]["model"] == (
        "v2 is refused: the model answers 0.119203 for carrier B6; its evaluation had 0.5"
    )
    assert predicted.json()["predictions"][0]["model_version"] == 1


@pytest.mark.parametrize("content", [None, b"[]", b"{"])
def test_a_model_without_golden_rows_is_refused(world: World, run, content: bytes | None):
    def change():
        name = f"models/{world.promote(2, 2.0)}/smoke.json"
        if content is None:
            path_of(world.store.uri(name)).unlink()
        else:
            world.store.write(name, content)

    synced, ready, _, _ = sync_after(world, run, change)
    assert (synced.status_code, ready.json()["model_version"]) == (503, 1)
    assert "smoke.json" in ready.json()["problems"]["model"]


def test_a_replica_for_one_version_keeps_it_whatever_is_promoted(world: World, run):
    async def versions(version: int | None):
        async with world.client(version={"flights": version} if version else {}) as client:
            ready = (await client.get("/models/flights/ready")).json()
            predicted = (await client.post("/models/flights/predict", json=FLIGHT)).json()
            return ready["model_version"], ready["model"] and ready["model"]["ledger_seq"], predicted

    world.promote(2, 2.0)
    assert run(versions(None))[:2] == (2, 2)
    assert run(versions(1))[:2] == (1, 1)
    assert run(versions(1))[2]["predictions"][0]["model_version"] == 1
    book = ledger.Ledger(world.store)
    book.append(
        expect=2,
        action="revert",
        to_version=1,
        effective_from="2013-03",
        who="t",
        why="t",
        evidence=book.entries()[0].evidence,
    )
    assert run(versions(1))[:2] == (1, 3), "what is live again is live by the newest entry that says so"
    assert run(versions(2))[:2] == (2, 2)
    assert run(versions(7))[2]["error"] == "this replica is for v7, which no entry of the promotion ledger puts live"
    book.append(
        expect=3, action="rollback", to_version=None, effective_from="2013-04", who="eve", why="wrong", evidence=None
    )
    assert run(versions(1))[0] is None, "nothing is live, so neither is this version"


def test_the_first_model_is_verified_too(empty: World, run):
    empty.land("2013-01")
    digest = empty.promote(1, 1.0)
    spoil(empty, f"models/{digest}/model.onnx", "flip a bit")
    synced, ready, predicted, _ = sync_after(empty, run, lambda: None)
    assert {synced.status_code, ready.status_code, predicted.status_code} == {503}
    assert "has sha256" in predicted.json()["error"]


def test_an_interval_that_fails_verification_never_replaces_the_state(world: World, run):
    def change():
        world.land("2013-03")
        record = landed.read(world.store, "2013-03")
        assert record is not None
        spoil(world, record.state["flights"].name, "flip a bit")

    synced, ready, predicted, metrics = sync_after(world, run, change)
    assert synced.status_code == 200  # the model is what the ledger says; the interval is a problem of its own
    assert ready.json()["state"]["intervals"] == ["2013-01", "2013-02"]
    assert "2013-03" in ready.json()["problems"]["state"]
    assert predicted.status_code == 200
    assert 'airloop_online_load_errors_total{model="flights",what="state"} 1.0' in metrics


def test_an_interval_landed_again_with_other_content_is_loaded(world: World, run):
    def change():
        world.land("2013-02", make_flights("2013-02").slice(0, 30))

    _, ready, predicted, _ = sync_after(world, run, change)
    assert ready.json()["problems"] == {}
    assert predicted.json()["predictions"][0]["degraded"]  # the flight of the 14th is no longer in the schedule


def test_the_newest_interval_what_it_looks_back_on_and_the_golden_ones_are_kept(world: World, run):
    golden = (
        "features: {day_zero: '2013-01-01', horizon_hours: 3, trailing_days: 7, departure_hours: 3, late_minutes: 15}\n"
    )
    golden += "golden: {intervals: [2013-02]}\n"
    many = [f"2013-{month:02d}" for month in range(3, 11)]

    def change():
        world.store.write("runs/r/models/flights/params.yaml", golden.encode())
        world.promote(2, 2.0)
        for interval in many:
            world.land(interval)

    async def go():
        async with world.client() as client:
            await asyncio.to_thread(change)
            await client.post("/-/sync/flights")
            before = (await client.get("/models/flights/ready")).json()["state"]["intervals"]
            await asyncio.to_thread(world.land, "2013-12")
            await client.post("/-/sync/flights")
            gap = (await client.get("/models/flights/ready")).json()["state"]["intervals"]
            await asyncio.to_thread(world.land, "2013-11")
            await client.post("/-/sync/flights")
            after = (await client.get("/models/flights/ready")).json()["state"]["intervals"]
            asked = FLIGHT | {"scheduled_time": "2013-06-14T08:30"}
            return before, gap, after, (await client.post("/models/flights/predict", json=asked)).json()

    before, gap, after, old = run(go())
    assert before == ["2013-01", "2013-02", "2013-09", "2013-10"]
    assert gap == ["2013-01", "2013-02", "2013-12"], "November has not landed"
    assert after == ["2013-01", "2013-02", "2013-11", "2013-12"], "a landing that comes late"
    reasons = " ".join(old["predictions"][0]["reasons"])
    assert "2013-06 has not landed or is not kept here, and late rates look back 7 days" in reasons


def test_where_nothing_landed_a_look_at_the_store_reads_no_record_and_lists_only_the_ledger(
    world: World, run, monkeypatch: pytest.MonkeyPatch
):
    asked: list[str] = []
    read, names = Store.read, Store.names
    monkeypatch.setattr(Store, "read", lambda self, name, *more: asked.append(name) or read(self, name, *more))
    monkeypatch.setattr(Store, "names", lambda self, prefix: asked.append(f"{prefix}/*") or names(self, prefix))

    async def go():
        async with world.client() as client:
            await client.post("/-/sync/flights")
            asked.clear()
            await client.post("/-/sync/flights")

    run(go())
    assert asked == ["ledger/*", "ledger/000001.json", "index/head.json", "index/log/00000003.json"]


def test_a_broken_ledger_leaves_what_is_live(world: World, run):
    def change():
        world.store.write("ledger/000002.json", b"{}")

    synced, ready, predicted, _ = sync_after(world, run, change)
    assert synced.status_code == 503
    assert "ledger" in ready.json()["problems"]["store"]
    assert predicted.json()["predictions"][0]["model_version"] == 1


def test_taken_out_of_service(world: World, run):
    def change():
        ledger.Ledger(world.store).append(
            expect=1,
            action="rollback",
            to_version=None,
            effective_from="2013-04",
            who="eve",
            why="wrong",
            evidence=None,
        )

    _, ready, predicted, _ = sync_after(world, run, change)
    assert ready.status_code == predicted.status_code == 503
    assert predicted.json()["error"] == "no model is live: ledger entry 2 by eve took it out of service (wrong)"


@pytest.mark.parametrize("file", ["models/flights/params.yaml", "params.yaml"])
def test_features_are_asked_with_the_settings_of_the_training_run(world: World, run, file: str):
    """The record of an older run has params.yaml alone."""

    def change():
        world.store.write("runs/r/params.yaml", b"features: {}\n")
        world.store.write(
            f"runs/r/{file}",
            b"features: {day_zero: '2013-01-01', horizon_hours: 5, trailing_days: 7, departure_hours: 3, late_minutes: 15}\n",
        )
        world.promote(2, 2.0)

    _, _, predicted, _ = sync_after(world, run, change)
    assert predicted.json()["predictions"][0]["as_of"] == "2013-02-14T08:00:00Z"


def test_a_prediction_log_that_cannot_be_written_waits_and_stops_nothing(world: World, run, monkeypatch):
    real = Store.write

    def full(self, name, data):
        if name.startswith("online/") and blocked:
            raise OSError(28, "No space left on device")
        return real(self, name, data)

    monkeypatch.setattr(Store, "write", full)
    blocked = True

    async def go():
        nonlocal blocked
        async with world.client(flush_seconds=0.05) as client:
            first = await client.post("/models/flights/predict", json=FLIGHT)
            during = await metrics(
                client, lambda said: 'airloop_online_log_errors_total{model="flights"} 0.0' not in said
            )
            blocked = False
            await metrics(client, lambda said: 'airloop_online_log_waiting{model="flights"} 0.0' in said)
            return first, during

    first, during = run(go())
    assert first.status_code == 200
    assert 'airloop_online_log_waiting{model="flights"} 1.0' in during
    assert [n for n in world.store.names("online") if n.endswith("jsonl")]


async def metrics(client, wanted):
    """What /metrics says once that is as ``wanted``."""
    async with asyncio.timeout(60):
        while not wanted(said := (await client.get("/metrics")).text):  # noqa: ASYNC110 - what it says is a text
            await asyncio.sleep(0.02)
    return said
