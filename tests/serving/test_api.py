"""What the service answers, with the real app on a real store."""

import asyncio
import datetime as dt
import gzip
import json
import math

import pytest

from tasks.online import prediction_log
from tests.serving.world import FLIGHT, World, make_flights


def ask(world, run, *requests, **settings):
    """Answers of /models/flights/predict to ``requests``, in order."""

    async def go():
        async with world.client(**settings) as client:
            return [await client.post("/models/flights/predict", json=request) for request in requests]

    return run(go())


def test_one_flight(world: World, run):
    (response,) = ask(world, run, FLIGHT)
    (answer,) = response.json()["predictions"]
    assert response.status_code == 200
    assert answer["probability_late"] == pytest.approx(1 / (1 + math.exp(1)))
    assert answer["model_version"] == 1
    assert answer["as_of"] == "2013-02-14T10:00:00Z"
    assert (answer["degraded"], answer["reasons"]) == (False, [])
    assert answer["state"]["intervals"] == ["2013-01", "2013-02"]
    assert answer["state"]["age_seconds"] == 0


def test_many_flights_come_back_in_order_as_object_or_list(world: World, run):
    late = FLIGHT | {"scheduled_time": "2013-02-14T18:30"}
    for response in ask(world, run, {"flights": [FLIGHT, late]}, [FLIGHT, late]):
        first, second = response.json()["predictions"]
        assert first["probability_late"] < 0.5 < second["probability_late"]
        assert first["prediction_id"] != second["prediction_id"]


def test_the_same_moment_with_an_offset(world: World, run):
    utc = FLIGHT | {"scheduled_time": "2013-02-14T13:30:00Z"}
    plus = FLIGHT | {"scheduled_time": "2013-02-14T14:30+01:00"}
    answers = [r.json()["predictions"][0] for r in ask(world, run, FLIGHT, utc, plus)]
    assert {(a["as_of"], a["probability_late"], a["degraded"]) for a in answers} == {
        ("2013-02-14T10:00:00Z", answers[0]["probability_late"], False)
    }


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"carrier": "ZZ"}, "carrier ZZ is none that the model was trained on"),
        ({"destination": "XXX"}, "nothing is known to fly from JFK to XXX"),
        ({"flight": 9}, "another flight of the route is used"),
        ({"scheduled_time": "2013-02-14T09:30"}, "not in the landed schedule; its nearest is used"),
        ({"scheduled_time": "2013-03-03T08:30"}, "2013-03 has not landed"),
        ({"scheduled_time": "2013-01-02T08:30"}, "2012-12 has not landed"),
        ({"scheduled_time": "2031-07-01T08:30"}, "no weather of JFK is known at 2031-07-01T09:00:00Z"),
    ],
)
def test_what_is_unknown_degrades_the_answer_and_is_said(world: World, run, change, reason):
    (response,) = ask(world, run, FLIGHT | change)
    (answer,) = response.json()["predictions"]
    assert response.status_code == 200
    assert answer["degraded"]
    assert reason in "; ".join(answer["reasons"])
    assert 0 < answer["probability_late"] < 1


def test_age_is_how_far_the_flight_lies_beyond_what_landed(world: World, run):
    (response,) = ask(world, run, FLIGHT | {"scheduled_time": "2013-04-01T08:30"})
    state = response.json()["predictions"][0]["state"]
    last = dt.datetime.fromisoformat(state["as_of"])
    arrivals = [a for a in make_flights("2013-02")["arrived_at"].to_pylist() if a]
    assert last.timestamp() == max(arrivals)
    assert state["age_seconds"] == dt.datetime.fromisoformat("2013-04-01T09:00Z").timestamp() - max(arrivals)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"scheduled_time": "2013-03-10T02:30"}, "does not exist in New York"),
        ({"scheduled_time": "2013-11-03T01:30"}, "happens twice in New York"),
        ({"scheduled_time": "2013-02-30T01:30"}, "is not a date and time"),
        ({"scheduled_time": "tomorrow at eight o'clock"}, "is not a date and time"),
        ({"scheduled_time": "0001-01-01T00:00+14:00"}, "is outside the years"),
        ({"scheduled_time": 1365200000}, "scheduled_time: 1365200000 is not valid"),
        ({"flight": "101"}, "flight: '101' is not valid"),
        ({"flight": True}, "flight: True is not valid"),
        ({"flight": 10**30}, "flight: "),
        ({"flight": -1}, "Flight number, 1 to 9999"),
        ({"carrier": "JetBlue"}, "two letters or digits"),
        ({"carrier": None}, "carrier: None is not valid"),
        ({"origin": "SFO"}, "origin and destination are both SFO"),
        ({"dest": "SFO"}, "dest: this field is unknown; a request has carrier, flight, origin, destination"),
        ({"destination": "X" * 10_000}, "three capital letters"),
    ],
)
def test_bad_values_are_refused_with_a_sentence(world: World, run, change, sentence):
    (response,) = ask(world, run, FLIGHT | change)
    assert response.status_code == 422
    assert sentence in response.json()["error"]
    assert len(response.text) < 2000


def test_every_problem_of_a_list_is_listed_with_its_place(world: World, run):
    missing = {k: v for k, v in FLIGHT.items() if k != "carrier"}
    (response,) = ask(world, run, {"flights": [FLIGHT, missing, 7, FLIGHT | {"flight": 0}]})
    assert response.status_code == 422
    assert [p["where"] for p in response.json()["problems"]] == [
        "flights[1].carrier",
        "flights[2]",
        "flights[3].flight",
    ]


@pytest.mark.parametrize(
    ("body", "kind", "status", "sentence"),
    [
        (b"{", "application/json", 422, "is not JSON"),
        (b"", "application/json", 422, "is not JSON"),
        (b"\xff\xfe", "application/json", 422, "is not JSON"),
        (b'{"flight": NaN}', "application/json", 422, "is not JSON"),
        (b"[" * 100_000, "application/json", 422, "is not JSON"),
        (b"null", "application/json", 422, "no request object"),
        (b"{}", "application/json", 422, "carrier: this field is missing"),
        (b'{"flights": 3}', "application/json", 422, "no list"),
        (b'{"flights": [], "x": 1}', "application/json", 422, "'x'"),
        (b"[]", "application/json", 422, "0 flights; send 1 to 3"),
        (json.dumps([FLIGHT] * 4).encode(), "application/json", 422, "4 flights; send 1 to 3"),
        (json.dumps(FLIGHT).encode(), "text/plain", 422, "send JSON, with the header content-type: application/json"),
        (b"x" * 2_000_000, "application/json", 413, "more than 1,000,000 bytes"),
    ],
)
def test_bad_bodies_are_refused_with_a_sentence(world: World, run, body, kind, status, sentence):
    async def go():
        async with world.client(max_rows=3) as client:
            return await client.post("/models/flights/predict", content=body, headers={"content-type": kind})

    response = run(go())
    assert response.status_code == status
    assert sentence in response.json()["error"]


@pytest.mark.parametrize("coding", ["gzip", "deflate, gzip", "br", "IDENTITY", ""])
def test_a_compressed_body_is_refused_with_a_sentence(world: World, run, coding):
    async def go():
        async with world.client() as client:
            content = json.dumps(FLIGHT).encode()
            if "gzip" in coding:
                content = gzip.compress(content)
            return await client.post("/models/flights/predict", content=content, headers={"content-encoding": coding})

    response = run(go())
    if coding in ("IDENTITY", ""):
        assert response.status_code == 200
    else:
        assert response.status_code == 415 and coding in response.json()["error"]
        assert "without content-encoding" in response.json()["error"]


def test_a_body_without_a_length_is_cut_off_too(world: World, run):
    sent = 0

    async def endless():
        nonlocal sent
        for _ in range(1000):
            sent += 10_000
            yield b" " * 10_000

    async def go():
        async with world.client() as client:
            return await client.post(
                "/models/flights/predict", content=endless(), headers={"content-type": "application/json"}
            )

    assert run(go()).status_code == 413
    assert sent < 1_100_000, "what nobody will use is not read"


def test_before_the_first_promotion(empty: World, run):
    empty.land("2013-01")

    async def go():
        async with empty.client() as client:
            return (
                await client.get("/models/flights/ready"),
                await client.post("/models/flights/predict", json=FLIGHT),
                await client.get("/healthz"),
            )

    ready, predicted, health = run(go())
    assert ready.status_code == predicted.status_code == 503
    assert ready.json()["reason"] == predicted.json()["error"]
    assert ready.json()["reason"].startswith("no model is live yet: ")
    assert int(predicted.headers["retry-after"]) > 0
    assert health.status_code == 200


def test_pages_and_metrics(world: World, run):
    async def go():
        async with world.client() as client:
            await client.post("/models/flights/predict", json=FLIGHT)
            await client.post("/models/flights/predict", json=FLIGHT | {"carrier": "ZZ"})
            await client.post("/models/flights/predict", json={})
            return {
                p: await client.get(p) for p in ("/", "/docs", "/openapi.json", "/models/flights/ready", "/metrics")
            }

    pages = run(go())
    assert {r.status_code for r in pages.values()} == {200}
    metrics = pages["/metrics"].text
    assert 'airloop_online_requests_total{model="flights",status="200"} 2.0' in metrics
    assert 'airloop_online_requests_total{model="flights",status="422"} 1.0' in metrics
    assert 'airloop_online_predictions_total{degraded="true",model="flights"} 1.0' in metrics
    assert 'airloop_online_in_flight{model="flights"} 0.0' in metrics
    assert f'version="{pages["/models/flights/ready"].json()["model_version"]}"' in metrics
    schema = pages["/openapi.json"].json()
    body = schema["paths"]["/models/flights/predict"]["post"]["requestBody"]["content"]["application/json"]
    assert body["examples"]["one"]["value"]["origin"] == "JFK"
    references = {part.partition('"')[0] for part in pages["/openapi.json"].text.split('"#/components/schemas/')[1:]}
    assert references <= set(schema["components"]["schemas"])


def test_the_log_finds_every_prediction(world: World, run):
    batch = {"flights": [FLIGHT | {"flight": n} for n in range(1, 41)]}
    everything = [p for r in ask(world, run, FLIGHT, batch) for p in r.json()["predictions"]]
    assert len({a["prediction_id"] for a in everything}) == 41
    for answer in everything:
        found = prediction_log.find(world.store, answer["prediction_id"])
        assert found is not None
        assert found["probability"] == answer["probability_late"]
        assert (found["version"], found["model"]) == (answer["model_version"], answer["model"])
        files = world.store.read_json(prediction_log.state_name(found["state"]))
        assert list(files) == answer["state"]["intervals"]
    assert found["flight"] == 40


def test_the_log_is_in_the_store_within_a_flush(world: World, run):
    async def go():
        async with world.client(flush_seconds=0.05) as client:
            names: list[str] = []
            for _ in range(2):  # the second line joins the first in its segment
                response = await client.post("/models/flights/predict", json=FLIGHT)
                names.append(response.json()["predictions"][0]["prediction_id"])
                async with asyncio.timeout(60):
                    while not all(prediction_log.find(world.store, n) for n in names):  # noqa: ASYNC110 - another process could write it
                        await asyncio.sleep(0.02)

    run(go())


def test_orders_are_taken_from_this_machine_or_with_the_token(world: World, run):
    async def go(token, headers):
        async with world.client(synced=False, AIRLOOP_ADMIN_TOKEN=token) as client:
            return (await client.post("/-/sync/flights", headers=headers)).status_code

    assert run(go("", {})) == 200
    assert run(go("s", {})) == 403
    assert run(go("s", {"authorization": "Bearer \xe9".encode("latin1")})) == 403
    assert run(go("s", {"authorization": "Bearer s"})) == 200
