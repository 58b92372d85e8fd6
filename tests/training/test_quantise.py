"""The quantised export: never worse unsaid, never slower, and nothing of the clock in what must be made again."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

from tasks import evaluate, gate, rebuild, train
from tasks.core.urls import url_of
from tasks.modelling import smoke
from tasks.modelling.model import Matrix
from tasks.settings import params, settings_files
from tasks.settings.training_params import ExportParams
from tasks.storage.artefacts import Store, sha256, to_json
from tasks.training import quantise
from tests import makers

BASE = params.parse(makers.settings()).export
WIDE = {"max_log_loss_rise": 9.0, "max_auc_fall": 9.0, "max_gap": 1.0, "max_batch_gap": 1.0}


def asked(how: str, **changes) -> ExportParams:
    return BASE.model_copy(update={"quantize": how, "pairs": 10, "batch_sizes": (1, 64), **changes})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> makers.Workspace:
    """A small network, exported in INT8 as it is pinned to be, and evaluated."""
    root = tmp_path_factory.mktemp("quantise")
    run = makers.Workspace(root / "run", rows_a_day=15)
    run.raw["train"]["family"] = "mlp"
    run.raw["train"]["mlp"] |= {"epochs": 2, "hidden": [64, 32], "device_batch": 256}
    run.raw["export"] |= {"quantize": "int8"}
    run.raw["golden"]["rows"] = 200
    run.save()
    run.golden()
    run.train()
    run.resolve(Store(url_of(root / "store")))
    run.evaluate()
    return run


def candidate(world: makers.Workspace) -> evaluate.Candidate:
    return evaluate.read_candidate(world.root / "model")


def export(world: makers.Workspace, settings: ExportParams) -> quantise.Export:
    plain = (world.root / "model/plain.onnx").read_bytes()
    rows = train.source(world.params, world.root / "data/features")
    return quantise.export(plain, candidate(world).model.contract, lambda: rows.table("validation"), settings, 7)


def test_none_changes_nothing_and_measures_nothing() -> None:
    def never():
        raise AssertionError("nothing is read")

    found = quantise.export(b"onnx", None, never, asked("none"), 7)
    assert found == quantise.Export(b"onnx", None, {}, {})


def test_trees_ship_as_they_are_and_the_report_says_why(tmp_path: Path) -> None:
    run = makers.Workspace(tmp_path / "run", rows_a_day=15)
    rows = train.source(run.params, run.root / "data/features")
    plain, tried = train.train(rows, run.params.train), train.train(rows, run.params.train, export=asked("dynamic"))
    assert (tried.onnx, tried.plain, tried.readings) == (plain.onnx, None, b"{}\n")
    told = json.loads(tried.metrics).pop("export")
    assert told == {"asked": "dynamic", "shipped": "plain", "reasons": ["there is nothing to quantise"]}
    assert "export" not in json.loads(plain.metrics)


def test_int8_is_smaller_and_the_same_bytes_again(world: makers.Workspace) -> None:
    plain, small = ((world.root / "model" / name).read_bytes() for name in ("plain.onnx", "model.onnx"))
    assert "MatMulInteger" in quantise.operators(small) - quantise.operators(plain)
    assert not quantise.PRODUCTS & quantise.operators(small)
    assert len(small) < 0.6 * len(plain)
    assert quantise.quantise(plain, len(candidate(world).model.contract.features)) == small


def test_scores_that_depend_on_their_neighbours_are_a_reason_to_refuse(world: makers.Workspace) -> None:
    found = export(world, asked("dynamic"))
    assert (found.plain, found.facts["shipped"]) == (None, "plain")
    assert found.onnx == (world.root / "model/plain.onnx").read_bytes()
    assert found.facts["batch_gap"] > 1e-4, "measured: some thousandths"
    assert any("with the rows beside it" in reason for reason in found.facts["reasons"])
    assert quantise.batch_gap(*plain_alone(world)) == 0, "a plain model's do not"


def plain_alone(world: makers.Workspace):
    model = candidate(world).plain
    x = model.contract.encode(world.interval("2013-02").slice(0, 300))
    return model, x, model.predict(x)


def test_within_wide_margins_it_ships_unless_the_clock_is_against_it(world, monkeypatch) -> None:
    """What the clock says is put in its mouth: on a busy machine it says anything."""
    for ratio, shipped in ((0.5, "int8"), (1.5, "plain")):
        timed = {"plain_us": 10.0, "int8_us": 10 * ratio, "ratio": ratio, "lo": ratio - 0.01, "hi": ratio + 0.01}
        monkeypatch.setattr(quantise, "paired", lambda *_, timed=timed: timed)
        found = export(world, asked("dynamic", **WIDE))
        assert found.facts["shipped"] == shipped
        assert (found.plain is None) == (shipped == "plain")
        assert "10.0" in str(found.readings) and "10.0" not in str(found.facts), "no clock reading is in metrics.json"
        assert found.facts["quality"]["d_log_loss"]["hi"] < 0.05
    assert found.facts["reasons"] == ["it is measurably slower at batch size 1, 64 (export.json has the readings)"]


def readings(**ratios: tuple[float, float]) -> dict[str, dict[str, float]]:
    return {size: {"lo": lo, "hi": hi} for size, (lo, hi) in ratios.items()}


@pytest.mark.parametrize(
    ("int8_bytes", "timed", "reasons"),
    [
        (30, {"1": (0.98, 1.03), "256": (0.99, 1.01)}, 0),  # smaller, slower nowhere
        (95, {"1": (0.98, 1.03), "256": (0.7, 0.8)}, 0),  # faster somewhere
        (95, {"1": (0.98, 1.03), "256": (0.85, 0.95)}, 1),  # perhaps not by a tenth
        (30, {"1": (1.1, 1.2), "256": (0.7, 0.8)}, 1),  # slower somewhere
        (95, {"1": (1.1, 1.2), "256": (1.0, 1.1)}, 2),
    ],
)
def test_it_must_be_faster_or_smaller_and_slower_at_no_size(int8_bytes, timed, reasons) -> None:
    found = {"bytes": {"plain": 100, "int8": int8_bytes}}
    assert len(list(quantise.not_worth_it(found, readings(**timed), BASE))) == reasons


def test_each_margin_is_a_reason_of_its_own() -> None:
    good = {"quality": {"days": 9, "d_log_loss": {"hi": 0.0004}, "d_auc": {"lo": -0.0004}}, "gap": 0.01, "batch_gap": 0}
    assert list(quantise.too_different(good, BASE)) == []
    bad = {
        "quality": {"days": 9, "d_log_loss": {"hi": 0.0006}, "d_auc": {"lo": -0.0006}},
        "gap": 0.1,
        "batch_gap": 2e-6,
    }
    assert [reason.split(" by ")[0] for reason in quantise.too_different(bad, BASE)] == [
        "log loss may rise", "AUC may fall", "a score differs", "a score changes",
    ]  # fmt: skip
    unmeasured = {"quality": {"days": 9, "d_log_loss": {"hi": float("nan")}, "d_auc": {"lo": float("nan")}}}
    assert len(list(quantise.too_different(unmeasured | {"gap": float("nan"), "batch_gap": float("nan")}, BASE))) == 4


class Slow:
    """Takes ``times`` milliseconds."""

    def __init__(self, milliseconds: float) -> None:
        self._seconds = milliseconds / 1000

    def predict(self, x: Matrix) -> Matrix:
        time.sleep(self._seconds)
        return x[:, 0]


def test_pairs_tell_slow_from_slower() -> None:
    found = quantise.paired(Slow(1), Slow(4), np.zeros((1, 1), np.float32), 10)
    assert 1 < found["lo"] <= found["ratio"] <= found["hi"]
    assert found["int8_us"] > found["plain_us"] > 900


def test_parity_is_the_plain_model_s_and_int8_has_margins_of_its_own(world: makers.Workspace, tmp_path: Path) -> None:
    report = json.loads((world.root / "evaluation/evaluation.json").read_bytes())["candidate"]
    assert report["parity_gap"] < 1e-5 < report["quantised"]["batch_gap"]
    assert report["model"] == sha256((world.root / "model/model.onnx").read_bytes())
    said = gate.decide(world.root)["failures"]
    assert not [failure for failure in said if "parity" in failure]
    assert [failure for failure in said if failure.startswith("int8 score alone less in a batch")]
    lenient = world.copy(tmp_path / "lenient")
    lenient.raw["export"] |= WIDE
    lenient.save()
    assert not [failure for failure in gate.decide(lenient.root)["failures"] if failure.startswith("int8")]
    del report["quantised"]
    assert len(list(gate.quantised({"candidate": report}, BASE))) == 2, "what was not measured is not allowed"


def test_the_page_says_what_shipped(world: makers.Workspace) -> None:
    page = (world.root / "evaluation/report.html").read_text()
    assert "What ships: int8" in page and "The parity above is that of the plain model" in page


def test_a_service_may_differ_by_the_margin_and_no_more(world: makers.Workspace) -> None:
    rows = json.loads((world.root / "evaluation/smoke.json").read_bytes())
    model = candidate(world).model
    alone = [float(model.predict(model.contract.encode_rows([row["features"]]))[0]) for row in rows]
    assert smoke.difference(rows, alone) is not None, "one at a time, INT8 answers otherwise"
    assert smoke.difference([row | {"tolerance": 0.05} for row in rows], alone) is None
    assert {row["tolerance"] for row in rows} == {BASE.max_batch_gap}


@pytest.mark.parametrize(
    ("now", "shipped", "then"), [("dynamic", "int8", "int8"), ("dynamic", "plain", "none"), ("none", None, "none")]
)
def test_a_rebuild_asks_for_what_was_decided(tmp_path, monkeypatch, now, shipped, then) -> None:
    kept = Store(url_of(tmp_path / "store"))
    monkeypatch.setattr(rebuild, "store", lambda: kept)
    kept.write("models/abc/evaluation.json", to_json({"candidate": {"training": {"export": {"shipped": shipped}}}}))
    raw = makers.settings()
    raw["export"]["quantize"] = now
    settings_files.write(tmp_path, raw)
    rebuild.pin_export(tmp_path, "abc")
    assert params.load(tmp_path).export.quantize == then


def test_a_rebuild_of_a_model_whose_settings_were_one_file_asks_for_what_was_decided(tmp_path, monkeypatch) -> None:
    kept = Store(url_of(tmp_path / "store"))
    monkeypatch.setattr(rebuild, "store", lambda: kept)
    kept.write("models/abc/evaluation.json", to_json({"candidate": {"training": {"export": {"shipped": "int8"}}}}))
    (tmp_path / "params.yaml").write_text("model: flights\nexport: {quantize: dynamic, pairs: 9}\n")
    rebuild.pin_export(tmp_path, "abc")
    assert (tmp_path / "params.yaml").read_text() == "model: flights\nexport: {quantize: int8, pairs: 9}\n"


def test_a_rebuild_of_a_model_older_than_the_export_s_settings_leaves_them_alone(tmp_path) -> None:
    raw = makers.settings()
    del raw["export"]
    (tmp_path / "params.yaml").write_bytes(to_json(raw))
    rebuild.pin_export(tmp_path, "abc")
    assert (tmp_path / "params.yaml").read_bytes() == to_json(raw)


def test_what_was_measured_and_pinned_is_the_same_model(world: makers.Workspace, monkeypatch) -> None:
    timed = {"plain_us": 2.0, "int8_us": 1.0, "ratio": 0.5, "lo": 0.5, "hi": 0.5}
    monkeypatch.setattr(quantise, "paired", lambda *_: timed)
    assert export(world, asked("dynamic", **WIDE)).onnx == export(world, asked("int8")).onnx
