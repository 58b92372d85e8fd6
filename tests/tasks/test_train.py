"""Training: the same bytes again, nothing learned from held-out days, and ONNX that says what the family's own format says."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import xgboost as xgb

from models.flights.definitions import FEATURES
from tasks import train as stage
from tasks.core.errors import ConfigError, DataError
from tasks.modelling import model as models
from tasks.settings.training_params import TrainParams
from tasks.settings.value_types import DayRule
from tasks.storage.artefacts import sha256
from tasks.training.families import xgboost as family
from tasks.training.source import Source
from tests import makers

HOLDOUT = DayRule(every=4, remainder=2)


def settings(xgboost=None, **changes) -> TrainParams:
    raw = makers.settings()["train"]
    return TrainParams.model_validate(raw | changes | {"xgboost": raw["xgboost"] | (xgboost or {})})


@pytest.fixture(scope="module")
def source_of(tmp_path_factory: pytest.TempPathFactory):
    """Puts feature rows where a training reads them."""

    def put(table: pa.Table) -> Source:
        return makers.source(table, tmp_path_factory.mktemp("features"))

    return put


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return pa.concat_tables([makers.features(interval) for interval in ("2013-01", "2013-02")])


@pytest.fixture(scope="module")
def trained(table: pa.Table, source_of) -> stage.Trained:
    return stage.train(source_of(table), settings())


def relabel(table: pa.Table, rows) -> pa.Table:
    flipped = pc.if_else(rows, pc.subtract(pa.scalar(1, pa.int8()), table["late"]), table["late"])
    return table.set_column(table.schema.get_field_index("late"), "late", flipped)


def test_the_same_rows_give_the_same_bytes(table: pa.Table, trained: stage.Trained, source_of) -> None:
    assert stage.train(source_of(table), settings()) == trained


def test_two_threads_repeat_themselves_too(table: pa.Table, source_of) -> None:
    first = stage.train(source_of(table), settings(threads=2))
    assert stage.train(source_of(table), settings(threads=2)) == first


def test_another_seed_is_another_model(table: pa.Table, trained: stage.Trained, source_of) -> None:
    assert stage.train(source_of(table), settings(seed=8)).onnx != trained.onnx


def test_held_out_days_teach_nothing(table: pa.Table, trained: stage.Trained, source_of) -> None:
    """Not their labels, not their features, not their categories."""
    out = pa.array(np.asarray(table["day"]) % 4 == 2)
    changed = relabel(table, out)
    for name, other in (("temp", pa.scalar(99.0)), ("carrier", pa.scalar("ZZ"))):
        changed = changed.set_column(changed.schema.get_field_index(name), name, pc.if_else(out, other, changed[name]))
    again = stage.train(source_of(changed), settings())
    assert (again.onnx, again.contract, again.native) == (trained.onnx, trained.contract, trained.native)


def test_validation_days_are_stopped_on_and_not_trained_on(table: pa.Table, source_of) -> None:
    source = source_of(table)
    fit, stop = source.table("train"), source.table("validation")
    assert set(np.asarray(stop["day"]) % 8) == {4}
    assert not set(np.asarray(fit["day"]) % 8) & {2, 4, 6}
    assert fit["late"].null_count == stop["late"].null_count == 0
    known = np.asarray(pc.is_valid(table["late"])) & (np.asarray(table["day"]) % 4 != 2)
    assert fit.num_rows + stop.num_rows == known.sum()


def test_labels_of_training_days_do_matter(table: pa.Table, trained: stage.Trained, source_of) -> None:
    assert (
        stage.train(source_of(relabel(table, pa.array(np.asarray(table["day"]) % 4 == 1))), settings()).onnx
        != trained.onnx
    )


def test_onnx_says_what_xgboost_says_also_of_unknown_and_null(table: pa.Table, trained: stage.Trained) -> None:
    model = models.load(trained.onnx, trained.contract, sha256(trained.onnx))
    strange = table.slice(0, 500).set_column(
        table.schema.get_field_index("carrier"), "carrier", pa.array(["ZZ", None] * 250, pa.string())
    )
    x = np.concatenate(
        [model.contract.encode(table), model.contract.encode(strange), np.full((1, len(FEATURES)), np.nan, np.float32)]
    )
    assert np.abs(family.predict(trained.native, x) - model.predict(x)).max() < 1e-5


def test_a_row_scores_alike_alone_and_in_a_batch(table: pa.Table, trained: stage.Trained) -> None:
    model = models.load(trained.onnx, trained.contract, sha256(trained.onnx))
    together = model.score(table.slice(0, 200))
    alone = np.concatenate(
        [model.predict(model.contract.encode_rows([row])) for row in table.slice(0, 200).to_pylist()]
    )
    assert alone.tobytes() == together.tobytes()


def test_contract_and_metrics_say_what_was_learned(trained: stage.Trained) -> None:
    contract = models.Contract.parse(trained.contract)
    facts = json.loads(trained.metrics)
    assert contract.names == FEATURES
    assert contract.features[0].categories == ("9E", "AA", "B6", "DL", "UA")
    assert contract.onnx_sha256 == sha256(trained.onnx)
    assert facts["family"] == "xgboost"
    assert facts["intervals"] == ["2013-02"]
    assert facts["data_through"] == "2013-02"
    assert 0 < facts["rounds"] <= 80
    assert 0.3 < facts["validation_log_loss"] < 0.69
    assert sum(facts["gain_share"].values()) == pytest.approx(1, abs=1e-4)


def test_stops_early_at_the_best_round(table: pa.Table, source_of) -> None:
    patient = json.loads(
        stage.train(
            source_of(table), settings(xgboost={"rounds": 400, "eta": 0.5, "max_depth": 8, "min_child_weight": 1.0})
        ).metrics
    )
    assert patient["rounds"] < 400


def test_without_a_gpu_build_cuda_is_a_sentence(table: pa.Table, monkeypatch: pytest.MonkeyPatch, source_of) -> None:
    monkeypatch.setattr(xgb, "build_info", lambda: {"USE_CUDA": False})
    with pytest.raises(ConfigError, match=r"train.device=cuda, but this xgboost is built without CUDA"):
        stage.train(source_of(table), settings(device="cuda"))


def test_one_outcome_or_no_rows_is_a_sentence(table: pa.Table, source_of) -> None:
    with pytest.raises(DataError, match="not both outcomes"):
        stage.train(source_of(table.slice(0, 0)), settings())
    never = table.set_column(table.schema.get_field_index("late"), "late", pa.array([0] * table.num_rows, pa.int8()))
    with pytest.raises(DataError, match="not both outcomes"):
        stage.train(source_of(never), settings())
