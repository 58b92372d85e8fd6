"""Offline and online are the same features, bit for bit: a real interval, made by the real stages, asked at the real service.

The interval's features come from Spark, as training reads them; the service's from the state that landing publishes.
"""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.flights import landing
from models.flights.asof import State
from models.flights.definitions import CATEGORIES, FEATURES
from models.flights.model import MODEL
from models.flights.state import read_state, state_tables
from tasks import ingest, manifest, publish, validate
from tasks.core.urls import url_of
from tasks.modelling.model import Contract, Feature
from tasks.settings import params
from tasks.settings.environment import environment
from tasks.storage.artefacts import Store
from tasks.storage.state_file import StateFile
from tests import parity
from tests.makers import put_settings
from tests.serving.world import CODE

BEFORE, INTERVAL = "2013-01", "2013-02"

pytestmark = pytest.mark.slow  # Spark


@dataclass
class Real:
    """Two real intervals."""

    state: State
    kept: pa.Table
    features: pa.Table


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Real]:
    """Lands two intervals, runs the stages on them as a run's workspace would, publishes and loads their state."""
    root = tmp_path_factory.mktemp("parity")
    with pytest.MonkeyPatch.context() as patch:
        archive = landing.source()  # AIRLOOP_SOURCE, or the copy this checkout fetches once
        patch.setenv("AIRLOOP_LANDING", url_of(root / "landing"))
        patch.setenv("AIRLOOP_STORE", url_of(root / "store"))
        environment.cache_clear()
        patch.chdir(root)
        put_settings(root, [BEFORE, INTERVAL])
        tables = landing.read_tables(archive)
        for interval in (BEFORE, INTERVAL):
            landing.land(interval, tables, Store(url_of(root / "landing")).part("flights"))
            for stage in (manifest, ingest, validate):
                patch.setattr(sys, "argv", [stage.__name__, "--interval", interval])
                stage.main()
        command = [sys.executable, str(CODE / "tasks/features.py"), "--interval", INTERVAL]
        done = subprocess.run(
            command, env=os.environ | {"PYTHONPATH": str(CODE)}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        store = Store(url_of(root / "store")).part("flights")
        yield Real(
            State(
                {m: read_state(store, publish_interval(m, store)) for m in (BEFORE, INTERVAL)}, params.load().features
            ),
            pq.read_table(f"data/kept/{INTERVAL}/flights.parquet"),
            pq.read_table(f"data/features/{INTERVAL}.parquet"),
        )
    environment.cache_clear()


def publish_interval(interval: str, store: Store) -> dict[str, StateFile]:
    kept = Path("data/kept") / interval
    tables = state_tables({name: pq.read_table(kept / f"{name}.parquet") for name in ("flights", "weather")})
    return publish.put_state(interval, tables, store)


def as_asked(kept: pa.Table) -> list[dict]:
    """What a traveller would have asked: by the origin's clock."""
    clocks = [dt.datetime.combine(row["date"], dt.time(row["hour"], row["minute"])) for row in kept.to_pylist()]
    return [
        {**request, "scheduled_time": clock.isoformat(timespec="minutes")}
        for request, clock in zip(parity.asked(MODEL, kept), clocks, strict=True)
    ]


def test_online_and_offline_features_are_bit_equal(real: Real):
    assert real.features.num_rows == real.kept.num_rows >= 10_000
    known = parity.known(MODEL, real.state, as_asked(real.kept))
    assert parity.differences(MODEL, real.features, known) == {}
    reasons = {reason for k in known for reason in k.reasons}
    assert all(reason.startswith("no weather of") for reason in reasons), "all of it has landed"


def test_the_model_sees_the_same_bits(real: Real):
    contract = Contract(
        features=tuple(
            Feature(name=f, kind="category", categories=tuple(sorted(set(real.kept[f].to_pylist()))[1:]))
            if f in CATEGORIES else Feature(name=f, kind="number")
            for f in FEATURES
        ),
        label="late",
        onnx_sha256="0" * 64,
    )  # fmt: skip
    rows = [k.features for k in parity.known(MODEL, real.state, as_asked(real.kept.slice(0, 2000)))]
    offline, online = contract.encode(real.features.slice(0, 2000)), contract.encode_rows(rows)
    assert np.isnan(offline[:, :3]).any(), "the first value of each category is one that training did not know"
    assert offline.tobytes() == online.tobytes()
