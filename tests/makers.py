"""Feature intervals that look like the example's and a workspace around them, made in milliseconds.

Lateness follows the weather, the trailing rates, the hour and a luck that a whole day shares, so that models learn
something, days cluster, and the gate's behavioural checks have an answer.
"""

from __future__ import annotations

import copy
import dataclasses
import datetime as dt
import io
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from models.flights.definitions import KEY, LABEL, LATE_DEPARTURES, LATE_RATES, NUMBERS
from models.flights.model import MODEL
from tasks import evaluate, golden, resolve, spec, train
from tasks.modelling.model import Contract
from tasks.modelling.tables import read_features
from tasks.registry import versions
from tasks.registry.ledger import Evidence, Ledger
from tasks.settings import params, policy, settings_files
from tasks.settings.environment import CODE
from tasks.settings.params import Params
from tasks.settings.value_types import DayRule
from tasks.storage.artefacts import Store, sha256, to_json, write_atomic
from tasks.training.source import Source

WARMUP = ("2013-01", "2013-02", "2013-03")
DAY_ZERO = params.of_model(CODE, MODEL.name).features.day_zero
WINDOW = (*WARMUP, "2013-04")

SCHEMA = pa.schema(
    [
        ("date", pa.date32()),
        ("scheduled_at", pa.int64()),
        ("carrier", pa.string()),
        ("flight", pa.int32()),
        ("origin", pa.string()),
        ("as_of", pa.int64()),
        ("day", pa.int32()),
        ("late", pa.int8()),
        ("dest", pa.string()),
        *((name, pa.float64()) for name in NUMBERS),
    ]
)


def features(interval: str, rows_a_day: int = 60, *, seed: int = 0, day_luck: float = 0.4) -> pa.Table:
    """An interval of feature rows with their labels, sorted by the key; equal arguments, equal rows."""
    first, last = (MODEL.cadence.local(key).date() for key in (interval, MODEL.cadence.shift(interval, 1)))
    days = (last - first).days
    n = days * rows_a_day
    rng = np.random.default_rng([seed, first.year * 12 + first.month])
    day = np.repeat(np.arange(days), rows_a_day)
    carrier, origin = rng.integers(0, 5, n), rng.integers(0, 3, n)
    hour = rng.integers(5, 23, n)
    wet = (rng.random(days) < 0.3)[day]
    x = {name: np.clip(rng.beta(3, 9, n) + 0.02 * carrier, 0, 1) for name in LATE_RATES}
    x |= {
        LATE_DEPARTURES: rng.beta(2, 7, n),
        "hour": hour,
        "dow": (day + first.weekday()) % 7,
        "block_minutes": rng.integers(60, 400, n),
        "distance": rng.integers(90, 2500, n),
        "temp": rng.normal(45, 12, n),
        "dewp": rng.normal(35, 12, n),
        "humid": rng.uniform(30, 100, n),
        "wind_dir": rng.integers(0, 36, n) * 10,
        "wind_speed": rng.gamma(4, 2.5, n),
        "wind_gust": np.where(rng.random(n) < 0.7, np.nan, rng.uniform(20, 45, n)),
        "precip": np.where(wet, rng.exponential(0.1, n), 0.0),
        "pressure": rng.normal(1015, 7, n),
        "visib": np.where(wet, rng.uniform(0.2, 10, n), 10.0),
    }
    logit = (
        -3.2
        + 0.06 * (hour - 13)
        + 3 * x["precip"]
        + 0.12 * (10 - x["visib"])
        + 2.5 * x[LATE_DEPARTURES]
        + 4 * x["late_rate_carrier"]
        + rng.normal(0, day_luck, days)[day]
    )
    late = rng.random(n) < 1 / (1 + np.exp(-logit))
    dates = [first + dt.timedelta(days=int(d)) for d in day]
    midnight = (day + (first - dt.date(1970, 1, 1)).days) * 86400 + 5 * 3600
    columns: dict[str, Any] = {
        name: pa.array(np.asarray(v, dtype=np.float64), from_pandas=True) for name, v in x.items()
    }
    columns |= {
        "date": dates,
        "scheduled_at": midnight + hour * 3600,
        "as_of": midnight + (hour - 3) * 3600,
        "carrier": np.array(["9E", "AA", "B6", "DL", "UA"])[carrier],
        "flight": np.tile(np.arange(rows_a_day), days) + 1,
        "origin": np.array(["EWR", "JFK", "LGA"])[origin],
        "dest": np.array(["ATL", "BOS", "IAH", "LAX", "ORD"])[rng.integers(0, 5, n)],
        "day": day + (first - DAY_ZERO).days,
        "late": pa.array(late.astype(np.int8), mask=rng.random(n) < 0.03),
    }
    return pa.table({name: pa.array(columns[name]).cast(SCHEMA.field(name).type) for name in SCHEMA.names}).sort_by(
        [(column, "ascending") for column in KEY]
    )


def put(table: pa.Table, data: Path, interval: str, **options: Any) -> None:
    """Write ``table``, of features with their labels, where stages read it; ``options`` of the Parquet files."""
    files = {"features": table.drop_columns([LABEL]), "labels": lines(table)}
    for name, content in files.items():
        sink = io.BytesIO()
        pq.write_table(content, sink, **options)
        write_atomic(data / name / f"{interval}.parquet", sink.getvalue())


def lines(table: pa.Table) -> pa.Table:
    """What the label file of the rows of ``table`` has."""
    return table.select([*KEY, LABEL]).filter(pc.is_valid(table[LABEL]))


def source(table: pa.Table, folder: Path, **options: Any) -> Source:
    """``table``, as February, where a training reads it; ``options`` of the Parquet files."""
    put(table, folder, "2013-02", **options)
    rules = settings()
    days = DayRule.model_validate(rules["holdout"]), DayRule.model_validate(rules["train"]["validation"])
    return Source(folder / "features", ("2013-02",), *days)


def settings(intervals: Sequence[str] = WINDOW) -> dict[str, Any]:
    """All sections of a run's settings, cut to what the made data can answer; the golden set is not pinned yet."""
    raw = settings_files.read(CODE, MODEL.name) | {"model": MODEL.name, "intervals": MODEL.cadence.window(intervals)}
    raw["golden"] |= {"intervals": list(WARMUP), "rows": 600, "min_rows_per_value": 10, "digest": None}
    raw["train"]["threads"] = 1
    raw["train"]["xgboost"] |= {"rounds": 80, "eta": 0.15, "early_stopping_rounds": 10}
    raw["train"]["mlp"] |= {
        "epochs": 4,
        "device_batch": 64,
        "warmup_steps": 10,
        "learning_rate": 0.005,
        "hidden": [16, 8],
    }
    raw["gate"] |= {
        "floors": {"auc": 0.62, "ece": 0.12},
        "slices": {"origin": {"min_rows": 1, "min_auc": 0.55}},
        "behaviour": {
            "heavy rain": {"set": {"precip": 0.3}, "min_shift": 0.01},
            "one mile farther": {"add": {"distance": 1}, "min_shift": -0.01, "max_shift": 0.01},
        },
    }
    raw["gate"]["promotion"]["resamples"] = 400
    return raw


def put_settings(root: Path, intervals: Sequence[str] = WINDOW, **sections: dict[str, Any]) -> None:
    """Give a folder the checkout's settings for these intervals; ``sections`` replaces single ones of a section."""
    raw = settings_files.read(CODE, MODEL.name) | {"model": MODEL.name, "intervals": MODEL.cadence.window(intervals)}
    for name, content in sections.items():
        raw[name] |= content
    _write_settings(root, raw)


def _write_settings(root: Path, raw: dict[str, Any]) -> None:
    settings_files.write(root, raw)
    declared = settings_files.spec_of(MODEL.name)
    write_atomic(root / declared, (CODE / declared).read_bytes())


def approved(
    store: Store, tags: Mapping[str, str], champion: tuple[int | None, str | None]
) -> tuple[str, dict[str, str]]:
    """The record and the tags of a version that the gate let through.

    Args:
        store: the model's.
        tags: of the version, those of its verdict aside.
        champion: number and digest of what the gate compared it with; None twice where nothing was live.
    """
    verdict = to_json(verdict_on(tags["airloop.onnx"], tags["airloop.contract"], champion))
    record = versions.put_record(store, tags["airloop.onnx"], {"gate.json": verdict})
    return record, {**tags, "airloop.gate": sha256(verdict), "airloop.policy": policy.digest(CODE, MODEL.name)}


def verdict_on(model: str, contract: str, champion: tuple[int | None, str | None]) -> dict[str, Any]:
    """What the gate says of a candidate that it lets through, by the checkout's policy."""
    against = dict(zip(("version", "model"), champion, strict=True))
    judged = {"model": model, "contract": contract, "policy": policy.digest(CODE, MODEL.name), "champion": against}
    return {"passed": True, "verdict": "promote", "summary": "better", "evidence": judged}


def champion_of(book: Ledger) -> tuple[int | None, str | None]:
    """Number and digest of what is live."""
    live = book.latest()
    return (live.to_version, live.evidence.model) if live and live.evidence else (None, None)


class Workspace:
    """A run's folder with made features; its methods run the stages' own code there."""

    def __init__(self, root: Path, intervals: Sequence[str] = WINDOW, *, rows_a_day: int = 60, seed: int = 0) -> None:
        self.root = root
        self.raw = settings(intervals)
        for interval in sorted({*intervals, *WARMUP}):
            self.put_interval(interval, features(interval, rows_a_day, seed=seed))
        self.save()

    def copy(self, root: Path) -> Workspace:
        """The same, as it stands, at ``root``."""
        shutil.copytree(self.root, root)
        twin = copy.copy(self)
        twin.root, twin.raw = root, copy.deepcopy(self.raw)
        return twin

    @property
    def params(self) -> Params:
        """The settings as a stage sees them."""
        return params.load(self.root)

    def save(self) -> None:
        """Write ``raw`` to the files of settings, beside the model's declaration."""
        _write_settings(self.root, self.raw)

    def put_interval(self, interval: str, table: pa.Table) -> None:
        """Replace an interval's features and labels."""
        put(table, self.root / "data", interval)

    def interval(self, interval: str) -> pa.Table:
        """An interval's features, with the labels that landed with it."""
        return read_features([interval], folder=self.root / "data/features", labels_through=interval)

    def golden(self, *, pin: bool = True) -> str:
        """Freeze the golden set, and pin it; returns its digest."""
        use = self.params
        through = max(use.golden.intervals)
        table = read_features(use.golden.intervals, folder=self.root / "data/features", labels_through=through)
        found = golden.write(golden.freeze(table, use.golden, use.holdout), self.root / "golden")
        if pin:
            self.raw["golden"]["digest"] = found
            self.save()
        return found

    def train(self) -> train.Trained:
        """Train on the window."""
        use = self.params
        made = train.train(train.source(use, self.root / "data/features"), use.train, export=use.export)
        train.write(made, self.root / "model")
        return made

    def resolve(self, store: Store) -> None:
        """Pin the store's champion."""
        resolve.write(resolve.resolve(store), self.root / "champion")

    def evaluate(self) -> None:
        """Measure."""
        for name, content in evaluate.evaluate(self.params, self.root).items():
            write_atomic(self.root / "evaluation" / name, content)


def make_champion(store: Store, made: train.Trained, *, data_through: str, version: int = 1) -> None:
    """Make ``made`` the champion: its files in the store and a ledger entry from the interval after its data."""
    digest = sha256(made.onnx)
    store.write(f"models/{digest}/model.onnx", made.onnx)
    store.write(f"models/{digest}/contract.json", made.contract)
    book = Ledger(store)
    book.append(
        expect=len(book.entries()),
        action="promote",
        to_version=version,
        effective_from=MODEL.cadence.shift(data_through, 1),
        who="test",
        why="test",
        evidence=Evidence(
            model=digest,
            contract=sha256(made.contract),
            run="test",
            data_through=data_through,
            labelled_through=data_through,
            verdict=None,
            policy=None,
        ),
    )


def record_settings(store: Store) -> None:
    """Keep the settings of the champion's training, the checkout's, where its run has them."""
    own = settings_files.of_model(MODEL.name)
    store.write(f"runs/test/{own}", (CODE / own).read_bytes())


def nan_model(folder: Path) -> None:
    """Make one leaf of the model in ``folder`` answer NaN; the file itself stays valid and is signed as it should be."""
    proto = onnx.load_from_string((folder / "model.onnx").read_bytes())
    weights = next(a for a in proto.graph.node[0].attribute if a.name == "class_weights")
    weights.floats[0] = float("nan")
    content = proto.SerializeToString()
    write_atomic(folder / "model.onnx", content)
    contract = Contract.parse((folder / "contract.json").read_bytes())
    write_atomic(folder / "contract.json", contract.model_copy(update={"onnx_sha256": sha256(content)}).to_bytes())


def without(monkeypatch: pytest.MonkeyPatch, feature: str) -> None:
    """From here on the model declares one numeric feature less."""
    fewer = dataclasses.replace(MODEL, numbers=tuple(name for name in MODEL.numbers if name != feature))
    monkeypatch.setattr(spec, "current", lambda: fewer)
