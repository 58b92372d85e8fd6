"""Several models in one process: each is answered for by itself, and none is in another's way."""

from __future__ import annotations

import asyncio
import math
import sys
import threading
from pathlib import Path

import pytest

import models
from serving import hosting
from serving.app import create_app
from serving.settings import Settings
from tasks import spec, spec_file
from tasks.core.errors import ConfigError
from tasks.landing import landed
from tasks.online import prediction_log
from tasks.storage.artefacts import Store
from tests.serving.world import CODE, FLIGHT, World

PARCEL = {"depot": "north", "grams": 250}
FOLDERS = Path(__file__).parent / "folders"


class Parcels(World):
    """The second model's part of the same store."""

    def land(self, interval: str) -> None:
        landed.write(
            self.store,
            landed.Landed(
                interval=interval, previous=interval, run="r", manifest="m", features="f", counts={}, lock={}, state={}
            ),
        )

    def promote(self, version: int, score: float) -> str:
        self.store.write("runs/r/params.yaml", b"features: {heavy_grams: 1000}\n")
        expected = 1 / (1 + math.exp(-score))
        return super().promote(version, score, features=("grams", "heavy"), by="grams", expected=expected)


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A call that makes the folders of models/ be these; ``broken`` raises when it is imported."""
    (tmp_path / "folders/broken").mkdir(parents=True)
    (tmp_path / "folders/broken/model.py").write_text('raise RuntimeError("the vocabulary is missing")\n')
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(FOLDERS), str(tmp_path / "folders")])
    require = spec_file.require_rendered
    # parcels is no folder of the checkout's models/, so there is no spec.json beside the others' for it.
    monkeypatch.setattr(spec_file, "require_rendered", lambda model: model.name == "parcels" or require(model))

    def there(*names: str) -> None:
        monkeypatch.setattr(hosting.spec, "names", lambda: sorted(names))

    there("flights", "parcels")
    yield there
    spec.load.cache_clear()
    for name in [name for name in sys.modules if name.startswith(("models.parcels", "models.broken"))]:
        del sys.modules[name]


@pytest.fixture
def parcels(world: World, folders) -> Parcels:
    """May has landed, and v7 is live, beside the flights of ``world``."""
    second = Parcels(world.store.shared.part("parcels"))
    second.land("2014-05")
    second.promote(7, 2.0)
    return second


async def sync(client, *names: str):
    return [await client.post(f"/-/sync/{name}") for name in names or ("flights", "parcels")]


async def predict(client, name: str):
    return await client.post(f"/models/{name}/predict", json={"flights": FLIGHT, "parcels": PARCEL}[name])


def test_each_answers_by_its_own_store_version_and_key(world: World, parcels: Parcels, run):
    async def go():
        async with world.client(synced=False) as client:
            await sync(client)
            flight, parcel = await predict(client, "flights"), await predict(client, "parcels")
            wrong = await client.post("/models/parcels/predict", json=FLIGHT)
            return flight, parcel, wrong, (await client.get("/readyz")).json()

    flight, parcel, wrong, ready = run(go())
    (flight,), (parcel,) = flight.json()["predictions"], parcel.json()["predictions"]
    assert (flight["model_version"], parcel["model_version"]) == (1, 7)
    assert flight["probability_late"] == pytest.approx(1 / (1 + math.exp(1)))
    assert parcel["chance_lost"] == pytest.approx(1 / (1 + math.exp(-2)))
    assert not {"probability_late"} & parcel.keys() and not {"chance_lost"} & flight.keys()
    assert (flight["state"]["intervals"], parcel["state"]["intervals"]) == (["2013-01", "2013-02"], ["2014-05"])
    assert wrong.status_code == 422 and wrong.json()["error"].startswith("depot: this field is missing")
    assert {name: status["model_version"] for name, status in ready["models"].items()} == {"flights": 1, "parcels": 7}

    for mine, other, answer in ((world, parcels, flight), (parcels, world, parcel)):
        assert answer["prediction_id"].startswith(f"{mine.store.url.rpartition('/')[2]}.online.")
        assert prediction_log.find(mine.store, answer["prediction_id"])["version"] == answer["model_version"]
        assert prediction_log.find(other.store, answer["prediction_id"]) is None


def test_a_promotion_a_sync_and_a_pinned_version_are_one_model_s(world: World, parcels: Parcels, run):
    async def go(**settings):
        async with world.client(synced=False, **settings) as client:
            await sync(client)
            world.promote(2, 2.0)
            parcels.promote(8, 3.0)
            await sync(client, "parcels")
            return {name: s["model_version"] for name, s in (await client.get("/readyz")).json()["models"].items()}

    assert run(go()) == {"flights": 1, "parcels": 8}
    assert run(go(version={"parcels": 7})) == {"flights": 2, "parcels": 7}


def test_each_has_its_own_metrics(world: World, parcels: Parcels, run):
    async def go():
        async with world.client(synced=False) as client:
            await sync(client)
            await predict(client, "parcels")
            await predict(client, "parcels")
            await client.post("/models/flights/predict", json={})
            return (await client.get("/metrics")).text

    said = run(go())
    assert 'airloop_online_requests_total{model="parcels",status="200"} 2.0' in said
    assert 'airloop_online_requests_total{model="flights",status="422"} 1.0' in said
    assert 'airloop_online_requests_total{model="flights",status="200"}' not in said
    assert 'airloop_online_predictions_total{degraded="false",model="parcels"} 2.0' in said
    assert 'airloop_online_request_seconds_count{model="parcels"} 2.0' in said
    assert 'airloop_online_state_intervals{model="flights"} 2.0' in said
    assert 'airloop_online_state_intervals{model="parcels"} 1.0' in said
    assert 'airloop_online_ready{model="flights"} 1.0' in said
    live = [line for line in said.splitlines() if line.startswith("airloop_online_model_info{")]
    assert sorted('model="parcels"' in line and 'version="7"' in line for line in live) == [False, True]


def test_a_folder_that_cannot_be_imported_says_why_and_hides_nobody(world: World, folders, run):
    folders("broken", "flights")

    async def go():
        async with world.client() as client:
            asked = [await client.get(path) for path in ("/models/broken/ready", "/models/broken/")]
            asked += [await client.post(path, json={}) for path in ("/models/broken/predict", "/-/sync/broken")]
            return asked, await predict(client, "flights"), await client.get("/readyz"), await client.get("/")

    asked, flight, ready, overview = run(go())
    reason = "models/broken cannot be loaded: RuntimeError: the vocabulary is missing"
    assert [(response.status_code, response.json()["error"]) for response in asked] == [(503, reason)] * 4
    assert flight.status_code == ready.status_code == 200
    assert ready.json()["models"]["broken"]["reason"] == reason
    assert 'href="models/broken/"' in overview.text and 'href="models/flights/"' in overview.text


def away(*_):
    raise OSError("the bucket is away")


@pytest.fixture
def parcels_store(monkeypatch: pytest.MonkeyPatch):
    """A call that makes listing in the parcels' part of the store do something else first."""
    names = Store.names

    def fail(first) -> None:
        def listed(store: Store, *arguments):
            if store.url.endswith("/parcels"):
                first()
            return names(store, *arguments)

        monkeypatch.setattr(Store, "names", listed)

    return fail


def test_one_whose_store_is_away_leaves_the_other_s_answered(world: World, parcels: Parcels, parcels_store, run):
    parcels_store(away)

    async def go():
        async with world.client(synced=False) as client:
            synced = await sync(client)
            answers = [await predict(client, "flights"), await predict(client, "parcels")]
            return [*synced, *answers, await client.get("/readyz")], (await client.get("/metrics")).text

    (flights, lost, flight, parcel, ready), said = run(go())
    assert [r.status_code for r in (flights, lost, flight, parcel, ready)] == [200, 503, 200, 503, 200]
    assert parcel.json()["error"] == "the store cannot be read: the bucket is away"
    assert {name: status["ready"] for name, status in ready.json()["models"].items()} == {
        "flights": True,
        "parcels": False,
    }
    assert 'airloop_online_ready{model="parcels"} 0.0' in said and 'airloop_online_ready{model="flights"} 1.0' in said
    assert 'airloop_online_load_errors_total{model="flights",what="store"} 0.0' in said


def test_one_whose_store_hangs_leaves_the_other_s_answered(
    world: World, parcels: Parcels, parcels_store, run, monkeypatch: pytest.MonkeyPatch
):
    released = threading.Event()
    parcels_store(lambda: released.wait(120))
    monkeypatch.setattr(hosting, "START_SECONDS", 0.5)
    many = {"flights": [FLIGHT] * 40}  # in a thread

    async def go():
        async with world.client(synced=False) as client, asyncio.timeout(60):
            waiting = asyncio.create_task(client.post("/-/sync/parcels"))
            (synced,) = await sync(client, "flights")
            answers = [await predict(client, "flights"), await client.post("/models/flights/predict", json=many)]
            lost, ready = await predict(client, "parcels"), await client.get("/readyz")
            assert not waiting.done()
            released.set()
            return synced, *answers, lost, ready, await waiting, await predict(client, "parcels")

    try:
        *answered, back, parcel = run(go())
    finally:
        released.set()
    assert [response.status_code for response in answered] == [200, 200, 200, 503, 200]
    assert back.status_code == parcel.status_code == 200, "it is read as soon as the store answers"


def test_a_process_is_ready_as_soon_as_one_model_is(world: World, parcels: Parcels, run):
    async def go():
        async with world.client(synced=False, version={"flights": 5, "parcels": 5}) as client:
            await sync(client)
            none = await client.get("/readyz")
            alone = [(await client.get(f"/models/{name}/ready")).status_code for name in ("flights", "parcels")]
        async with world.client(synced=False, version={"flights": 5}) as client:
            await sync(client)
            one = await client.get("/readyz")
            return none, alone, one, [(await predict(client, n)).status_code for n in ("flights", "parcels")]

    none, alone, one, predicted = run(go())
    assert (none.status_code, none.json()["ready"], alone) == (503, False, [503, 503])
    assert (one.status_code, one.json()["ready"], predicted) == (200, True, [503, 200])
    assert "this replica is for v5" in one.json()["models"]["flights"]["reason"]


def references(node) -> set[str]:
    if isinstance(node, dict):
        return {node["$ref"]} if "$ref" in node else references(list(node.values()))
    return set().union(*map(references, node)) if isinstance(node, list) else set()


def test_openapi_has_both_under_names_of_their_own(world: World, parcels: Parcels, run):
    async def go():
        async with world.client() as client:
            return (await client.get("/openapi.json")).json()

    described = run(go())
    schemas = described["components"]["schemas"]
    assert references(described) <= {f"#/components/schemas/{name}" for name in schemas}
    assert set(schemas["flights.PredictionAnswer"]["properties"]) ^ set(
        schemas["parcels.PredictionAnswer"]["properties"]
    ) == {"probability_late", "chance_lost"}
    ours = {path: body for path, body in described["paths"].items() if path.startswith("/models/parcels/")}
    assert set(ours) == {"/models/parcels/predict", "/models/parcels/ready"}
    found = references(ours)
    assert found and all(name.startswith("#/components/schemas/parcels.") for name in found)
    operations = [operation["operationId"] for path in described["paths"].values() for operation in path.values()]
    assert len(operations) == len(set(operations))


def test_a_form_for_each_and_a_list(world: World, parcels: Parcels, run):
    async def go():
        async with world.client() as client:
            return [(await client.get(path)).text for path in ("/", "/models/flights/", "/models/parcels/")]

    overview, flights, second = run(go())
    assert 'href="models/flights/"' in overview and 'href="models/parcels/"' in overview
    assert "Will the parcel be lost?" in second and 'name="grams"' in second and "grams" not in flights


@pytest.mark.parametrize("path", ["/models/moons/predict", "/models/moons/ready", "/models/moons/", "/-/sync/moons"])
def test_an_unknown_model_is_a_sentence(world: World, parcels: Parcels, run, path):
    async def go():
        async with world.client() as client:
            return [await client.get(path), await client.post(path, json={})]

    for response in run(go()):
        assert response.status_code == 404
        assert response.json()["error"] == "'moons' is no model that is served here; there are: flights, parcels."


def test_an_unknown_address_of_a_model_is_a_sentence(world: World, run):
    async def go():
        async with world.client() as client:
            return [await client.get(path) for path in ("/models/flights/predict", "/models/flights/x/y")]

    for response in run(go()):
        assert response.status_code == 404
        assert response.json()["error"].startswith(
            "flights has no such address; there are: POST /models/flights/predict"
        )


def test_a_process_may_serve_some_models_only(world: World, parcels: Parcels, run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AIRLOOP_ONLINE_MODELS", " parcels ,")

    async def go():
        async with world.client(synced=False) as client:
            await sync(client, "parcels")
            asked = [(await predict(client, name)).status_code for name in ("flights", "parcels")]
            synced = (await client.post("/-/sync/flights")).status_code
            return asked, synced, (await client.get("/readyz")).json(), (await client.get("/metrics")).text

    asked, synced, ready, said = run(go())
    assert (asked, synced, list(ready["models"])) == ([404, 200], 404, ["parcels"])
    assert 'model="flights"' not in said


def test_an_unknown_name_among_them_is_one_sentence(world: World, folders):
    with pytest.raises(ConfigError) as refused:
        create_app(world.store.shared, Settings(models="flights,moons"), CODE)
    assert str(refused.value) == (
        "AIRLOOP_ONLINE_MODELS='flights,moons' names 'moons', which has no folder in models/; there are flights, parcels."
    )
