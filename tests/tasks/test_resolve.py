"""resolve pins the ledger's champion, whole, or fails."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from tasks import resolve as stage
from tasks import train
from tasks.core.errors import DataError
from tasks.core.urls import path_of, url_of
from tasks.modelling.model import Contract
from tasks.registry.ledger import Ledger
from tasks.storage.artefacts import Store, sha256
from tests import makers


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> train.Trained:
    return makers.Workspace(tmp_path_factory.mktemp("run"), makers.WARMUP).train()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(url_of(tmp_path / "store"))


def test_an_empty_ledger_is_no_champion(store: Store, tmp_path: Path) -> None:
    stage.write(stage.resolve(store), tmp_path / "champion")
    assert json.loads((tmp_path / "champion/champion.json").read_bytes())["version"] is None
    assert [p.name for p in (tmp_path / "champion").iterdir()] == ["champion.json"]


def test_the_newest_entry_is_the_champion_with_its_files(store: Store, tmp_path: Path, made: train.Trained) -> None:
    makers.make_champion(store, made, data_through="2013-03")
    makers.record_settings(store)
    stage.write(stage.resolve(store), tmp_path / "champion")
    digest = sha256(made.onnx)
    assert json.loads((tmp_path / "champion/champion.json").read_bytes()) == {
        "version": 1,
        "seq": 1,
        "effective_from": "2013-04",
        "model": digest,
        "data_through": "2013-03",
        "holdout": {"every": 4, "remainder": 2},
    }
    assert sha256((tmp_path / "champion/model.onnx").read_bytes()) == digest
    assert (tmp_path / "champion/contract.json").read_bytes() == made.contract


def test_a_champion_taken_out_of_service_leaves_no_files(store: Store, tmp_path: Path, made: train.Trained) -> None:
    makers.make_champion(store, made, data_through="2013-03")
    stage.write(stage.resolve(store), tmp_path / "champion")
    Ledger(store).append(
        expect=1, action="revert", to_version=None, effective_from="2013-04", who="t", why="t", evidence=None
    )
    stage.write(stage.resolve(store), tmp_path / "champion")
    assert [p.name for p in (tmp_path / "champion").iterdir()] == ["champion.json"]


def test_a_champion_without_its_settings_says_so(store: Store, made: train.Trained) -> None:
    makers.make_champion(store, made, data_through="2013-03")
    assert json.loads(stage.resolve(store)["champion.json"])["holdout"] is None


@pytest.mark.parametrize("name", ["model.onnx", "contract.json"])
@pytest.mark.parametrize("damage", ["absent", "altered"])
def test_a_champion_that_cannot_be_read_fails(store: Store, made: train.Trained, name: str, damage: str) -> None:
    makers.make_champion(store, made, data_through="2013-03")
    path = path_of(store.url) / "models" / sha256(made.onnx) / name
    path.unlink() if damage == "absent" else path.write_bytes(path.read_bytes()[:-2] + b"}}")
    with pytest.raises(DataError, match=r"champion v1 \(ledger entry 1\) cannot be read"):
        stage.resolve(store)


def test_a_champion_that_is_recorded_but_no_model_fails(store: Store, made: train.Trained) -> None:
    """Digests in order, content not: no candidate is judged against what cannot be loaded."""
    contract = Contract.parse(made.contract).model_copy(update={"onnx_sha256": sha256(b"no model")})
    makers.make_champion(
        store, dataclasses.replace(made, onnx=b"no model", contract=contract.to_bytes()), data_through="2013-03"
    )
    with pytest.raises(DataError, match="cannot be read, so no candidate"):
        stage.resolve(store)


def test_a_damaged_ledger_fails(store: Store, made: train.Trained) -> None:
    makers.make_champion(store, made, data_through="2013-03")
    store.write("ledger/000001.json", store.read("ledger/000001.json")[:-20])
    with pytest.raises(DataError, match="not a ledger entry"):
        stage.resolve(store)
