"""Batch scoring in a real Spark, with models that were really trained."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from models.flights.definitions import KEY
from tasks import score, train
from tasks.core import results
from tasks.core.errors import DataError
from tasks.core.urls import url_of
from tasks.landing import landed
from tasks.modelling.model import load
from tasks.registry import version_features
from tasks.registry.ledger import Ledger
from tasks.scoring import own_features
from tasks.settings import settings_files
from tasks.settings.environment import CODE, environment
from tasks.storage.artefacts import Store, sha256
from tests.makers import Workspace, make_champion, without

INTERVAL = "2013-04"
REMOVED = "visib"
"""A feature that v3 does without."""

pytestmark = pytest.mark.slow  # a JVM starts once


@dataclass
class World:
    """A workspace with features, a store, and three models to put live."""

    workspace: Workspace
    store: Store
    folder: Path
    models: list[train.Trained]

    def land(self, interval: str = INTERVAL) -> None:
        """Record ``interval`` as landed with the features that are there."""
        content = (self.workspace.root / f"data/features/{interval}.parquet").read_bytes()
        digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
        record = {
            "interval": interval,
            "previous": interval,
            "run": "r",
            "manifest": "",
            "features": digest,
            "counts": {},
            "lock": {},
            "state": {},
        }
        landed.write(self.store, landed.Landed.model_validate(record))

    def make_champion(self, *versions: int) -> None:
        """Put these versions live, one after the other, from INTERVAL on."""
        for version in versions:
            make_champion(self.store, self.models[version - 1], data_through="2013-03", version=version)

    def score(self, interval: str = INTERVAL) -> dict[str, Any]:
        return score.score(interval, self.workspace.root, self.store)

    def files(self) -> dict[str, tuple[bytes, int]]:
        """Content and time of writing of all that scoring wrote."""
        paths = sorted((self.folder / "predictions").rglob("*"))
        return {
            p.relative_to(self.folder).as_posix(): (p.read_bytes(), p.stat().st_mtime_ns) for p in paths if p.is_file()
        }

    def predictions(self, version: int) -> pa.Table:
        return pq.read_table(io.BytesIO(self.store.read(f"predictions/{INTERVAL}/v{version}.parquet")))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, list[train.Trained]]:
    workspace = Workspace(tmp_path_factory.mktemp("models"), rows_a_day=20)
    models = []
    for rounds in (5, 15):
        workspace.raw["train"]["xgboost"]["rounds"] = rounds
        workspace.save()
        models.append(workspace.train())
    with pytest.MonkeyPatch.context() as patch:
        without(patch, REMOVED)
        models.append(workspace.train())
    return workspace, models


@pytest.fixture
def world(tmp_path: Path, trained: tuple[Workspace, list[train.Trained]]) -> World:
    workspace, models = trained
    made = World(
        workspace.copy(tmp_path / "workspace"),
        Store(url_of(tmp_path / "store")).part("flights"),
        tmp_path / "store/flights",
        models,
    )
    made.land()
    return made


def no_spark(*_: object) -> None:
    raise AssertionError("Spark was started for nothing")


def test_before_the_first_model_the_interval_is_warming_up(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    monkeypatch.setattr(score, "predict", no_spark)
    monkeypatch.setenv("AIRLOOP_STORE", world.store.shared.url)
    monkeypatch.setenv("AIRLOOP_RESULT", str(tmp_path / "result.json"))
    monkeypatch.setattr(sys, "argv", ["score", "--interval", INTERVAL])
    monkeypatch.chdir(world.workspace.root)
    environment.cache_clear()
    score.main()
    environment.cache_clear()
    assert capsys.readouterr().out == "2013-04: warming up, no model is live for this interval yet\n"
    scored = world.store.read_json(f"predictions/{INTERVAL}/scored.json")
    assert (scored["status"], scored["champion"], scored["previous"], scored["predictions"]) == (
        "warming up",
        None,
        None,
        {},
    )
    assert results.read(tmp_path / "result.json").payload == scored
    assert list(world.files()) == [f"predictions/{INTERVAL}/scored.json"]


def test_a_model_that_is_live_later_scores_nothing_earlier(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(score, "predict", no_spark)
    world.land("2013-03")
    world.make_champion(1)
    assert world.score("2013-03")["status"] == "warming up"


def test_champion_and_shadow_in_one_go(world: World, monkeypatch: pytest.MonkeyPatch):
    """Every flight once a version, with the bits of a plain ONNX Runtime loop; again, no byte changes or is written."""
    world.make_champion(1, 2)
    written: list[str] = []
    put = score.put
    monkeypatch.setattr(score, "put", lambda name, *rest: (written.append(name), put(name, *rest))[1])
    result = world.score()
    assert (result["status"], result["champion"], result["previous"]) == ("scored", 2, 1)
    assert written[-1] == f"predictions/{INTERVAL}/scored.json", "it names what must be there"
    assert world.store.read_json(written[-1]) == result
    features = world.workspace.interval(INTERVAL)
    for version, made in zip((1, 2), world.models, strict=False):
        table = world.predictions(version)
        assert result["predictions"][f"v{version}"] == sha256(
            world.store.read(f"predictions/{INTERVAL}/v{version}.parquet")
        )
        assert table.schema.names == ["prediction_id", *KEY, "probability"]
        assert table.schema.field("probability").type == pa.float32()
        assert table.select(KEY).equals(features.select(KEY)), "the same flights in the same order"
        model = load(made.onnx, made.contract, sha256(made.onnx))
        one_by_one = [model.score(features.slice(row, 1))[0] for row in range(features.num_rows)]
        assert np.array_equal(table["probability"].to_numpy(), np.array(one_by_one, dtype=np.float32))
    first = world.files()
    assert world.score() == result
    assert world.files() == first


def test_ids_say_where_they_are_and_depend_on_nothing_else(world: World):
    world.make_champion(1, 2)
    world.score()
    ids = {v: world.predictions(v)["prediction_id"].to_pylist() for v in (1, 2)}
    for version, found in ids.items():
        assert len(set(found)) == len(found) == world.workspace.interval(INTERVAL).num_rows
        assert all(re.fullmatch(rf"flights\.2013-04\.v{version}\.[0-9a-f]{{16}}", one) for one in found)
    assert not {i.split(".")[3] for i in ids[1]} & {i.split(".")[3] for i in ids[2]}
    row = world.predictions(1).slice(7, 1).to_pylist()[0]
    assert row["prediction_id"] == score.prediction_id(INTERVAL, 1, tuple(row[k] for k in KEY))


def test_an_id_never_changes():
    """Ids are written down elsewhere: this one is for ever."""
    key = (dt.date(2013, 4, 1), 1364810400, "UA", 1545, "EWR")
    assert score.prediction_id("2013-04", 2, key) == "flights.2013-04.v2.fca7fccf422987ce"


def test_a_submitted_script_scores_to_the_same_bytes(world: World):
    """As Airflow does it: from the workspace, the script's path, another JVM and master."""
    world.make_champion(1, 2)
    before = sorted(world.workspace.root.iterdir())
    world.score()
    first = world.files()
    for path in (world.folder / "predictions").rglob("*.*"):
        path.unlink()
    done = subprocess.run(
        [Path(sys.executable).with_name("spark-submit"), "--master", "local[1]", CODE / "tasks/score.py", "--interval", INTERVAL],
        env=os.environ | {"PYTHONPATH": str(CODE), "AIRLOOP_STORE": world.store.shared.url, "PYSPARK_PYTHON": sys.executable,
                          "PYSPARK_DRIVER_PYTHON": sys.executable},
        cwd=world.workspace.root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"{INTERVAL}: 600 flights scored with v2, v1 beside it" in done.stdout
    assert {n: content for n, (content, _) in world.files().items()} == {
        n: content for n, (content, _) in first.items()
    }
    assert sorted(world.workspace.root.iterdir()) == before, "no litter"


def damage_model(world: World) -> None:
    digest = sha256(world.models[0].onnx)
    path = world.folder / f"models/{digest}/model.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"x")


def land_again(world: World) -> None:
    table = world.workspace.interval(INTERVAL)
    world.workspace.put_interval(INTERVAL, table.slice(1))


def forget_landing(world: World) -> None:
    (world.folder / f"landed/{INTERVAL}.json").unlink()


def lose_features(world: World) -> None:
    (world.workspace.root / f"data/features/{INTERVAL}.parquet").unlink()


@pytest.mark.parametrize(("harm", "says"), [
    (damage_model, "was changed or damaged"),
    (land_again, "landed again since"),
    (forget_landing, "2013-04 has not landed"),
    (lose_features, r"2013-04\.parquet is missing"),
])  # fmt: skip
def test_what_cannot_be_trusted_is_not_scored(
    world: World, monkeypatch: pytest.MonkeyPatch, harm: Callable[[World], None], says: str
):
    monkeypatch.setattr(score, "predict", no_spark)
    world.make_champion(1)
    harm(world)
    with pytest.raises(DataError, match=says):
        world.score()
    assert not world.files()


def test_nothing_live_any_more_is_recorded_as_such(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(score, "predict", no_spark)
    world.make_champion(1)
    Ledger(world.store).append(
        expect=1, action="rollback", to_version=None, effective_from=INTERVAL, who="test", why="test", evidence=None
    )
    assert world.score()["status"] == "warming up"


def test_a_champion_whose_feature_was_removed_is_refused_by_name(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(score, "predict", no_spark)
    world.make_champion(1)
    without(monkeypatch, REMOVED)
    with pytest.raises(
        DataError, match=rf"^v1 needs {REMOVED}, which models/flights does not compute.*put it back.*airloop rollback"
    ):
        world.score()
    assert not world.files()


def test_a_shadow_whose_feature_was_removed_is_left_out_and_the_champion_scored(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    world.make_champion(1, 3)
    without(monkeypatch, REMOVED)
    result = world.score()
    assert (result["champion"], result["previous"], list(result["predictions"])) == (3, None, ["v3"])
    assert result["not_scored"]["v1"].startswith(f"v1 needs {REMOVED}")
    assert f"warning: {INTERVAL} is scored without its shadow: v1 needs {REMOVED}" in capsys.readouterr().err
    assert world.predictions(3).num_rows == world.workspace.interval(INTERVAL).num_rows


def test_a_version_that_wants_features_of_its_own_needs_the_rows_of_the_interval(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(score, "predict", no_spark)
    monkeypatch.chdir(world.workspace.root)
    world.make_champion(1)
    own = settings_files.read(world.workspace.root, "flights")["features"] | {"departure_hours": 6}
    world.store.write("runs/test/models/flights/params.yaml", yaml.safe_dump({"features": own}).encode())
    with pytest.raises(DataError, match=r"has no output data/kept/.*; run the ingest DAG for"):
        world.score()


def test_a_shadow_whose_own_features_cannot_be_made_now_holds_no_champion_up(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    """What they are made of is lost, or a correction is on its way through the intervals that they look back on."""
    world.make_champion(1, 2)
    own = settings_files.read(world.workspace.root, "flights")["features"]
    settings = {1: own | {"departure_hours": 6}, 2: own}
    monkeypatch.setattr(
        version_features,
        "recorded",
        lambda version, *_: version_features.typed({"features": settings[version]}, "flights", ""),
    )
    monkeypatch.setattr(own_features, "landed_with", lambda _: version_features.typed({"features": own}, "flights", ""))
    monkeypatch.chdir(world.workspace.root)
    result = world.score()
    assert (result["champion"], list(result["predictions"])) == (2, ["v2"])
    assert "has no output data/kept" in result["not_scored"]["v1"]
