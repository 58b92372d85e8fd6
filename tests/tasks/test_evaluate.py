"""evaluate measures both models on the same rows, hides nothing, and repeats itself byte for byte."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks import evaluate as stage
from tasks.core.errors import DataError
from tasks.core.urls import url_of
from tasks.modelling import smoke
from tasks.modelling.latency import measure
from tasks.settings.value_types import DayRule
from tasks.storage.artefacts import Store, sha256
from tests import makers


def report(run: makers.Workspace) -> dict:
    return json.loads((run.root / "evaluation/evaluation.json").read_bytes())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> makers.Workspace:
    """A candidate through April against the champion through March."""
    root = tmp_path_factory.mktemp("run")
    store = Store(url_of(root / "store"))
    before = makers.Workspace(root / "before", makers.WARMUP)
    makers.make_champion(store, before.train(), data_through="2013-03")
    makers.record_settings(store)
    workspace = makers.Workspace(root / "run")
    workspace.golden()
    workspace.train()
    workspace.resolve(store)
    workspace.evaluate()
    return workspace


def test_measures_candidate_and_champion_alike(run: makers.Workspace) -> None:
    found = report(run)
    candidate, champion = found["candidate"], found["champion"]
    assert (candidate["data_through"], champion["data_through"], champion["version"]) == ("2013-04", "2013-03", 1)
    for model in (candidate, champion):
        assert model["golden"]["n"] == 600
        assert set(model["slices"]["origin"]) == {"EWR", "JFK", "LGA"}
        assert set(model["intervals"]) == set(makers.WINDOW)
        assert set(model["behaviour"]) == set(run.raw["gate"]["behaviour"])
        assert 0.6 < model["golden"]["auc"] < 0.95
    assert candidate["parity_gap"] < 1e-5
    assert sum(m["n"] for m in candidate["slices"]["origin"].values()) == 600
    assert candidate["behaviour"]["heavy rain"]["shift"] > 0.01
    assert found["golden"]["digest"] == run.raw["golden"]["digest"]


@pytest.mark.parametrize(
    ("theirs", "days"),
    [
        (None, {2, 6, 10, 14, 18, 22}),
        ({"every": 4, "remainder": 2}, {2, 6, 10, 14, 18, 22}),
        ({"every": 8, "remainder": 2}, {2, 10, 18}),
        ({"every": 3, "remainder": 0}, {6, 18}),
        ({"every": 4, "remainder": 1}, set()),
    ],
)
def test_decision_days_are_those_that_both_were_kept_from(theirs: dict[str, int] | None, days: set[int]) -> None:
    rows = pa.table({"day": pa.array(range(24), pa.int32())})
    found = stage.kept_from_both(rows, DayRule(every=4, remainder=2), {"holdout": theirs})
    assert set(found["day"].to_pylist()) == days


def test_decision_rows_are_all_held_out_labelled_rows_of_the_window(run: makers.Workspace) -> None:
    rows = pq.read_table(run.root / "evaluation/decision.parquet")
    assert set(np.asarray(rows["day"]) % 4) == {2}
    assert len(set(rows["day"].to_pylist())) == 30
    assert rows["p_candidate"].null_count == rows["p_champion"].null_count == 0
    assert rows.num_rows == sum(
        t["late"].is_valid().to_numpy()[np.asarray(t["day"]) % 4 == 2].sum() for t in map(run.interval, makers.WINDOW)
    )
    assert report(run)["decision"]["sha256"] == sha256((run.root / "evaluation/decision.parquet").read_bytes())


def test_measures_the_same_bytes_again(run: makers.Workspace) -> None:
    again = stage.evaluate(run.params, run.root)
    assert set(again) == {p.name for p in (run.root / "evaluation").iterdir()}
    for name, content in again.items():
        assert content == (run.root / "evaluation" / name).read_bytes(), name


def test_smoke_rows_are_what_a_traveller_knows_and_the_candidate_says(run: makers.Workspace) -> None:
    rows = json.loads((run.root / "evaluation/smoke.json").read_bytes())
    assert len(rows) == 50
    assert set(rows[0]) == {"carrier", "flight", "origin", "dest", "scheduled_at", "features", "probability"}
    assert len({(r["scheduled_at"], r["flight"]) for r in rows}) == 50


def test_smoke_rows_keep_what_the_model_saw(run: makers.Workspace) -> None:
    rows = json.loads((run.root / "evaluation/smoke.json").read_bytes())
    model = stage.read_candidate(run.root / "model").model
    scores = model.predict(model.contract.encode_rows([row["features"] for row in rows]))
    assert smoke.difference(rows, scores.tolist()) is None
    said = smoke.difference([{**rows[0], "probability": 0.5}, *rows[1:]], scores.tolist())
    assert said is not None and f"flight {rows[0]['flight']}" in said and said.endswith("its evaluation had 0.5")
    assert any(value is None for row in rows for value in row["features"].values()), "an unknown value is among them"


def test_the_page_is_self_contained(run: makers.Workspace) -> None:
    page = (run.root / "evaluation/report.html").read_text()
    assert "champion v1" in page
    assert "<script" not in page
    assert "http" not in page


def test_latency_is_measured_in_rows_and_microseconds(run: makers.Workspace) -> None:
    model = stage.read_candidate(run.root / "model").model
    found = measure(model, run.interval("2013-04"), 1000)
    assert found["batch"]["rows"] == 1000
    assert 0 < found["single_row_us"]["p50"] <= found["single_row_us"]["p99"]


@pytest.fixture
def fresh(run: makers.Workspace, tmp_path: Path) -> makers.Workspace:
    """A workspace of this test's own, trained, without a champion."""
    return run.copy(tmp_path / "run")


def test_golden_rows_without_features_are_counted(fresh: makers.Workspace) -> None:
    march = fresh.interval("2013-03")
    lost = march.filter(np.asarray(march["day"]) != 62)
    assert lost.num_rows < march.num_rows
    fresh.put_interval("2013-03", lost)
    frozen = pq.read_table(fresh.root / "golden/golden.parquet")["date"].to_pylist()
    fresh.evaluate()
    found = report(fresh)
    expected = sum(d.isoformat() == "2013-03-04" for d in frozen)
    assert found["golden"]["without_features"] == expected > 0
    assert found["candidate"]["golden"]["n"] == 600 - expected


def test_scores_that_are_nan_are_counted_and_nothing_is_averaged_over_the_rest(fresh: makers.Workspace) -> None:
    makers.nan_model(fresh.root / "model")
    fresh.evaluate()
    candidate = report(fresh)["candidate"]
    assert 0 < candidate["golden"]["nan"] <= 600
    assert candidate["decision"]["nan"] > 0
    assert [candidate["golden"][m] for m in ("auc", "log_loss", "ece", "brier")] == [None] * 4
    assert candidate["parity_gap"] is None


def test_a_champion_that_cannot_be_read_is_recorded(fresh: makers.Workspace) -> None:
    path = fresh.root / "champion/model.onnx"
    path.write_bytes(path.read_bytes()[:-1])
    fresh.evaluate()
    assert "changed or damaged" in report(fresh)["champion"]["error"]
    assert pq.read_table(fresh.root / "evaluation/decision.parquet")["p_champion"].null_count > 0


def test_a_candidate_that_cannot_be_read_is_an_error(fresh: makers.Workspace) -> None:
    (fresh.root / "model/native.json").unlink()
    with pytest.raises(DataError, match="run the train stage again"):
        fresh.evaluate()


def test_a_feature_the_model_lacks_cannot_be_changed(fresh: makers.Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    makers.without(monkeypatch, "precip")
    fresh.train()
    fresh.evaluate()
    assert report(fresh)["candidate"]["behaviour"]["heavy rain"] == {
        "absent": ["precip"],
        "shift": None,
        "share_up": None,
    }
