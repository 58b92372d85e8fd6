"""A small world for the service: two made-up intervals in a store, tiny real ONNX models, a real ledger, the real app."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import onnx
import pyarrow as pa
from onnx import TensorProto, helper

from models.flights.asof import NEW_YORK
from models.flights.definitions import CATEGORIES, FEATURES, WEATHER
from models.flights.state import state_tables
from serving.app import create_app
from serving.settings import Settings
from tasks.landing import landed
from tasks.modelling import model
from tasks.publish import put_state
from tasks.registry import ledger
from tasks.storage.artefacts import Store, sha256

CODE = Path(__file__).resolve().parents[2]
FLIGHT = {"carrier": "B6", "flight": 101, "origin": "JFK", "destination": "SFO", "scheduled_time": "2013-02-14T08:30"}
CARRIERS = {"B6": "JFK", "UA": "EWR", "AA": "LGA"}
DESTS = {"SFO": 2586, "BOS": 187, "MIA": 1089}
TEXT, WHOLE, SECONDS = pa.string(), pa.int32(), pa.int64()
FLIGHTS = pa.schema(
    {
        "carrier": TEXT,
        "flight": WHOLE,
        "origin": TEXT,
        "dest": TEXT,
        "date": pa.date32(),
        "hour": WHOLE,
        "minute": WHOLE,
    }
    | {
        "scheduled_at": SECONDS,
        "block_minutes": WHOLE,
        "distance": WHOLE,
        "departed_at": SECONDS,
        "arrived_at": SECONDS,
    }
    | {"dep_delay": WHOLE, "arr_delay": WHOLE}
)
OBSERVED = pa.schema([("origin", pa.string()), ("observed_at", pa.int64()), *((c, pa.float64()) for c in WEATHER)])


def make_flights(interval: str) -> pa.Table:
    """Nine flights a day with delays that look random but are not; every 13th is cancelled."""
    rows, day, number = [], dt.date.fromisoformat(f"{interval}-01"), 0
    while f"{day:%Y-%m}" == interval:
        for carrier, origin in CARRIERS.items():
            for dest, distance in DESTS.items():
                number += 1
                hour, minute = 6 + number % 15, 5 * (number % 12)
                if (carrier, dest) == ("B6", "SFO"):
                    hour, minute = 8, 30
                scheduled = int(dt.datetime(day.year, day.month, day.day, hour, minute, tzinfo=NEW_YORK).timestamp())
                block, delay = 60 + distance // 8, number * 7919 % 60 - 20
                gone = number % 13 != 0
                rows.append({
                    "carrier": carrier, "flight": 100 + len(dest) + list(DESTS).index(dest) - 2, "origin": origin,
                    "dest": dest, "date": day, "hour": hour, "minute": minute, "scheduled_at": scheduled,
                    "block_minutes": block, "distance": distance, "dep_delay": delay if gone else None,
                    "arr_delay": delay - 5 if gone else None, "departed_at": scheduled + 60 * delay if gone else None,
                    "arrived_at": scheduled + 60 * (block + delay - 5) if gone else None,
                })  # fmt: skip
        day += dt.timedelta(days=1)
    return pa.Table.from_pylist(rows, FLIGHTS)


def make_weather(interval: str) -> pa.Table:
    """Every hour of every origin, the gust never known."""
    hour = int(dt.datetime.fromisoformat(f"{interval}-01T00:00").replace(tzinfo=NEW_YORK).timestamp())
    rows = [
        {"origin": origin, "observed_at": at, **{c: float(at // 3600 % 50 + n) for n, c in enumerate(WEATHER)}}
        | {"wind_gust": None}
        for origin in CARRIERS.values()
        for at in range(hour, hour + 28 * 86400, 3600)
    ]
    return pa.Table.from_pylist(rows, OBSERVED)


def make_model(score: float, *, features: tuple[str, ...] = FEATURES, by: str = "hour") -> tuple[bytes, bytes]:
    """ONNX and contract of one tree: ``score`` (log odds) from 10 o'clock on (or 10 of ``by``), its negative before."""
    node = helper.make_node(
        "TreeEnsembleClassifier", ["features"], ["label", "probabilities"], domain="ai.onnx.ml",
        nodes_treeids=[0] * 3, nodes_nodeids=[0, 1, 2], nodes_featureids=[features.index(by), 0, 0],
        nodes_modes=["BRANCH_LT", "LEAF", "LEAF"], nodes_values=[10.0, 0.0, 0.0], nodes_truenodeids=[1, 0, 0],
        nodes_falsenodeids=[2, 0, 0], nodes_missing_value_tracks_true=[0] * 3, class_treeids=[0, 0],
        class_nodeids=[1, 2], class_ids=[0, 0], class_weights=[-score, score], classlabels_int64s=[0, 1],
        post_transform="LOGISTIC",
    )  # fmt: skip
    graph = helper.make_graph(
        [node], "tiny",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, len(features)])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2])],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 15), helper.make_opsetid("ai.onnx.ml", 1)]
    data = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    onnx.checker.check_model(data)
    known = {"carrier": sorted(CARRIERS), "origin": sorted(CARRIERS.values()), "dest": sorted(DESTS)}
    contract = model.Contract(
        features=tuple(
            model.Feature(name=f, kind="category", categories=tuple(known[f])) if f in CATEGORIES
            else model.Feature(name=f, kind="number")
            for f in features
        ),
        label="late",
        onnx_sha256=sha256(data),
    )  # fmt: skip
    return data, contract.to_bytes()


@dataclass
class World:
    """A store, and what lands and is promoted in it."""

    store: Store

    def land(self, interval: str, flights: pa.Table | None = None) -> None:
        tables = state_tables(
            {"flights": make_flights(interval) if flights is None else flights, "weather": make_weather(interval)}
        )
        landed.write(
            self.store,
            landed.Landed(interval=interval, previous=interval, run="r", manifest="m", features="f", counts={}, lock={},
                          state=put_state(interval, tables, self.store)),
        )  # fmt: skip

    def put_model(self, score: float, *, expected: float | None = None, **more: Any) -> ledger.Evidence:
        """A model with a golden row of 8:30; ``expected`` in place of what it answers."""
        data, contract = make_model(score, **more)
        digest = sha256(data)
        self.store.write(f"models/{digest}/model.onnx", data)
        answer = 1 / (1 + math.exp(score)) if expected is None else expected
        known = dict.fromkeys(more.get("features", FEATURES)) | {"carrier": "B6", "hour": 8.0}
        row = {"carrier": "B6", "features": known, "probability": None if math.isnan(answer) else answer}
        self.store.write_json(f"models/{digest}/smoke.json", [row])
        return ledger.Evidence(
            model=digest, contract=self.store.write(f"models/{digest}/contract.json", contract), run="r", verdict=None, policy=None, labelled_through="2013-03",
            data_through="2013-02",
        )  # fmt: skip

    def promote(self, version: int, score: float, **more: Any) -> str:
        """Put a model live; returns its digest."""
        evidence = self.put_model(score, **more)
        book = ledger.Ledger(self.store)
        book.append(
            expect=len(book.entries()),
            action="promote",
            to_version=version,
            effective_from="2013-03",
            who="test",
            why="test",
            evidence=evidence,
        )
        return evidence.model

    @asynccontextmanager
    async def client(self, *, synced: bool = True, **settings: object) -> AsyncIterator[httpx.AsyncClient]:
        """A client of the real app on this store; it looks at the store when told to."""
        values = {"poll_seconds": 3600.0, "flush_seconds": 3600.0, **settings}
        app = create_app(self.store.shared, Settings(**values), CODE)  # type: ignore[arg-type]  # tests name settings of every type
        transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))
        client = httpx.AsyncClient(transport=transport, base_url="http://online")
        async with app.router.lifespan_context(app), client:
            if synced:
                await client.post("/-/sync/flights")
            yield client
