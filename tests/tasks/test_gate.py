"""The gate blocks what it must, promotes what is better, and lets few equals through."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from scipy.stats import binomtest, norm

from tasks import gate as stage
from tasks.core.urls import url_of
from tasks.modelling import stats
from tasks.settings import params
from tasks.settings.gate_params import Behaviour
from tasks.storage.artefacts import Store, sha256
from tests import makers

SETTINGS = params.parse(makers.settings() | {"golden": makers.settings()["golden"] | {"digest": "a" * 64}})


# --- through the real stages ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> makers.Workspace:
    """A sound first candidate, evaluated; nobody is champion."""
    root = tmp_path_factory.mktemp("gate")
    run = makers.Workspace(root / "run")
    run.golden()
    run.train()
    run.resolve(Store(url_of(root / "store")))
    run.evaluate()
    return run


@pytest.fixture
def run(first: makers.Workspace, tmp_path: Path) -> makers.Workspace:
    return first.copy(tmp_path / "run")


def decide(run: makers.Workspace) -> dict[str, Any]:
    found = stage.decide(run.root)
    json.dumps(found, allow_nan=False)
    return found


def refused(run: makers.Workspace, *sentences: str) -> None:
    """Refused, and each sentence is among the reasons."""
    found = decide(run)
    assert (found["passed"], found["verdict"]) == (False, "refused")
    for sentence in sentences:
        assert any(sentence in failure for failure in found["failures"]), found["failures"]


def test_a_sound_first_candidate_becomes_champion(run: makers.Workspace) -> None:
    found = decide(run)
    assert (found["passed"], found["verdict"], found["failures"]) == (True, "promote", [])
    assert found["summary"].startswith("first champion")
    assert found["evidence"]["model"] == sha256((run.root / "model/model.onnx").read_bytes())
    assert found["evidence"]["contract"] == sha256((run.root / "model/contract.json").read_bytes())


def test_shuffled_labels_are_refused(run: makers.Workspace) -> None:
    for interval in makers.WINDOW:
        table = run.interval(interval)
        train_days = np.asarray(table["day"]) % 4 != 2
        late = table["late"].to_numpy(zero_copy_only=False).copy()
        late[train_days] = np.random.default_rng(1).permutation(late[train_days])
        column = pa.array(late, from_pandas=True).cast(pa.int8())
        run.put_interval(interval, table.set_column(table.schema.get_field_index("late"), "late", column))
    run.train()
    run.evaluate()
    refused(run, "golden auc:", "behaviour heavy rain")


def test_a_dropped_feature_is_refused(run: makers.Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    makers.without(monkeypatch, "precip")
    run.train()
    run.evaluate()
    refused(run, "behaviour heavy rain: not measured: the model lacks precip")


def test_a_feature_that_never_varied_is_refused(run: makers.Workspace) -> None:
    for interval in makers.WINDOW:
        table = run.interval(interval)
        run.put_interval(
            interval,
            table.set_column(table.schema.get_field_index("precip"), "precip", pa.array([0.0] * table.num_rows)),
        )
    run.train()
    run.evaluate()
    refused(run, "behaviour heavy rain, mean shift: 0.0000")


def test_nan_scores_are_refused(run: makers.Workspace) -> None:
    makers.nan_model(run.root / "model")
    run.evaluate()
    refused(run, "scores are NaN, required 0", "golden auc: not measured", "onnx parity gap: not measured")


def test_an_unreadable_champion_is_refused(run: makers.Workspace) -> None:
    (run.root / "champion/champion.json").write_text('{"version": 3, "model": "0"}')
    run.evaluate()
    refused(run, "champion: cannot be read")


def test_lost_golden_features_are_refused(run: makers.Workspace) -> None:
    march = run.interval("2013-03")
    run.put_interval("2013-03", march.filter(np.asarray(march["day"]) != 62))
    run.evaluate()
    refused(run, "rows without exactly one feature row, required 0", "required all 600")


def test_an_empty_golden_set_is_refused(run: makers.Workspace) -> None:
    path = run.root / "golden/golden.parquet"
    pq.write_table(pq.read_table(path).slice(0, 0), path)
    run.evaluate()
    refused(run, "golden set: digest", "golden set: 0 rows, required 600", "more than none", "golden auc: not measured")


def test_another_golden_set_is_refused_even_of_the_right_size(run: makers.Workspace) -> None:
    table = run.interval("2013-01")
    flipped = pc.subtract(pa.scalar(1, pa.int8()), table["late"])
    run.put_interval("2013-01", table.set_column(table.schema.get_field_index("late"), "late", flipped))
    run.golden(pin=False)
    run.evaluate()
    refused(run, "required the pinned")


def test_an_unpinned_golden_set_says_what_to_pin(run: makers.Workspace) -> None:
    run.raw["golden"]["digest"] = None
    run.save()
    digest = json.loads((run.root / "golden/golden.json").read_bytes())["digest"]
    refused(run, f"not pinned; set golden.digest: {digest}")


@pytest.mark.parametrize(
    "path", ["floors.auc", "floors", "promotion.min_days", "promotion", "max_parity_gap", "slices"]
)
def test_a_missing_threshold_is_refused_by_name(run: makers.Workspace, path: str) -> None:
    section = run.raw["gate"]
    *parents, last = path.split(".")
    for parent in parents:
        section = section[parent]
    del section[last]
    run.save()
    refused(run, f"gate.{path}: Field required")


def test_decision_rows_of_another_evaluation_are_refused(run: makers.Workspace) -> None:
    path = run.root / "evaluation/decision.parquet"
    path.write_bytes(path.read_bytes() + b" ")
    refused(run, "not the one evaluation.json was made with")


@pytest.mark.parametrize("name", ["evaluation.json", "decision.parquet"])
def test_missing_or_torn_measurements_are_refused(run: makers.Workspace, name: str) -> None:
    path = run.root / "evaluation" / name
    path.write_bytes(path.read_bytes()[:100])
    refused(run, "")
    path.unlink()
    refused(run, "incomplete or unreadable")


def test_the_command_writes_the_verdict_and_exits_well(
    run: makers.Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run.raw["gate"]["floors"] = {"auc": 0.99, "ece": 0.0}
    run.save()
    monkeypatch.chdir(run.root)
    monkeypatch.setattr("sys.argv", ["gate"])
    stage.main()
    found = json.loads((run.root / "gate/gate.json").read_bytes())
    assert [f.split(":")[0] for f in found["failures"]] == ["golden auc", "golden ece"]
    out = capsys.readouterr().out
    assert "golden auc" in out
    assert "golden ece" in out


# --- constructed candidates ----------------------------------------------------------------------------------------


def days_of_luck(
    seed: int, ours: float, theirs: float, *, days: int = 28, rows: int = 150, row_error: float = 0.1
) -> pa.Table:
    """Decision rows of two models that both see the truth, each blurred by an error (SD of the logit) a day of its own."""
    rng = np.random.default_rng(seed)
    day = np.repeat(np.arange(days), rows)
    truth = rng.normal(-1.3, 0.9, days * rows) + rng.normal(0, 0.5, days)[day]

    def blurred(by_day: float) -> np.ndarray:
        return 1 / (1 + np.exp(-(truth + rng.normal(0, by_day, days)[day] + rng.normal(0, row_error, len(day)))))

    late = rng.random(len(day)) < 1 / (1 + np.exp(-truth))
    return pa.table(
        {
            "day": pa.array(day * 4 + 2, pa.int32()),
            "late": pa.array(late.astype(np.int8)),
            "p_candidate": blurred(ours),
            "p_champion": blurred(theirs),
        }
    )


def report(**changes: Any) -> dict[str, Any]:
    """An evaluation in which everything is well, and v1 is champion."""
    measured = {"n": 600, "positives": 150, "nan": 0, "auc": 0.8, "ece": 0.02, "log_loss": 0.4, "brier": 0.1}
    found: dict[str, Any] = {
        "candidate": {
            "model": "c" * 64,
            "contract": "d" * 64,
            "data_through": "2013-04",
            "golden": measured,
            "decision": measured,
            "parity_gap": 1e-7,
            "slices": {"origin": {"EWR": measured, "JFK": measured}},
            "behaviour": {
                name: {"absent": [], "shift": 0.02 if name == "heavy rain" else 0.0, "share_up": 1.0}
                for name in SETTINGS.gate.behaviour
            },
        },
        "champion": {
            "version": 1,
            "seq": 1,
            "model": "e" * 64,
            "data_through": "2013-03",
            "holdout": {"every": 4, "remainder": 2},
        },
        "golden": {"digest": "a" * 64, "rows": 600, "without_features": 0, "relabelled_since": 0},
        "decision": {"sha256": "f" * 64},
    }
    for path, value in changes.items():
        part = found
        *parents, last = path.split("__")
        for parent in parents:
            part = part[parent]
        part[last] = value
    return copy.deepcopy(found)


def verdict(rows: pa.Table, evaluation: dict[str, Any] | None = None) -> dict[str, Any]:
    evaluation = evaluation or report()
    found = stage.judge(evaluation, rows, SETTINGS.gate, SETTINGS.golden)
    return stage.verdict(evaluation, found, SETTINGS.gate, {})


def test_clearly_better_is_promoted_with_its_evidence() -> None:
    found = verdict(days_of_luck(1, 0.1, 0.9))
    assert (found["verdict"], found["passed"]) == ("promote", True)
    assert found["promotion"]["days"] == 28
    assert found["promotion"]["d_log_loss"]["hi"] < 0
    assert found["promotion"]["optimism"]["note"]
    assert found["summary"].startswith("better than v1")


@pytest.mark.parametrize(("ours", "theirs"), [(0.4, 0.4), (0.9, 0.1), (0.35, 0.4)])
def test_equal_worse_or_not_provably_better_keeps_the_champion(ours: float, theirs: float) -> None:
    found = verdict(days_of_luck(2, ours, theirs))
    assert (found["verdict"], found["passed"]) == ("keep champion", False)
    assert any("log loss less champion v1's" in failure for failure in found["failures"])


def test_the_same_model_again_keeps_the_champion() -> None:
    rows = days_of_luck(3, 0.4, 0.4)
    same = rows.set_column(2, "p_candidate", rows["p_champion"])
    found = verdict(same, report(champion__model="c" * 64))
    assert found["verdict"] == "keep champion"
    assert "byte for byte" in found["warnings"][0]


def test_better_log_loss_does_not_buy_a_worse_auc() -> None:
    """A champion that ranks as well as one can but states far too much, against a calibrated blur of it."""
    rows = days_of_luck(4, 0.0, 0.0, rows=600, row_error=0.0)
    champion = np.asarray(rows["p_champion"])
    logit = np.log(champion / (1 - champion))
    blurred = np.random.default_rng(0).normal(0, 0.5, len(logit)) + logit
    worse = rows.set_column(2, "p_candidate", pa.array(1 / (1 + np.exp(-blurred))))
    worse = worse.set_column(3, "p_champion", pa.array(1 / (1 + np.exp(-(logit + 1.2)))))
    found = verdict(worse)
    assert found["promotion"]["d_log_loss"]["hi"] < 0
    assert found["verdict"] == "keep champion"
    assert [f for f in found["failures"] if f.startswith("auc less champion v1's")] == found["failures"]


def test_too_few_days_keep_the_champion() -> None:
    found = verdict(days_of_luck(1, 0.1, 0.9, days=27))
    assert found["verdict"] == "keep champion"
    assert "decision days: 27 that both were kept from, required 28" in found["failures"][0]


def test_only_the_newest_days_are_compared() -> None:
    old = days_of_luck(1, 0.9, 0.1)
    new = days_of_luck(2, 0.1, 0.9)
    later = new.set_column(0, "day", pc.add(new["day"], pa.scalar(112, pa.int32())))
    found = verdict(pa.concat_tables([later, old]))
    assert found["promotion"]["days"] == SETTINGS.gate.promotion.max_days == 28
    assert found["verdict"] == "promote"


def test_an_older_model_never_replaces_a_newer_one() -> None:
    found = verdict(days_of_luck(1, 0.1, 0.9), report(champion__data_through="2013-05"))
    assert found["verdict"] == "refused"
    assert "older model never replaces" in found["failures"][0]


def test_a_champion_whose_own_held_out_days_are_unknown_is_not_compared_with() -> None:
    found = verdict(days_of_luck(1, 0.1, 0.9), report(champion__holdout=None))
    assert found["verdict"] == "refused"
    assert "champion v1 has no record of the days that it was kept from" in found["failures"][0]


def test_a_champion_without_scores_of_the_same_rows_is_refused() -> None:
    rows = days_of_luck(1, 0.1, 0.9)
    found = verdict(rows.set_column(3, "p_champion", pa.nulls(rows.num_rows, pa.float64())))
    assert found["verdict"] == "refused"
    assert "champion v1 has no score for 4200 rows" in found["failures"][0]


def test_everything_that_failed_is_listed() -> None:
    found = verdict(
        days_of_luck(2, 0.9, 0.1),
        report(
            candidate__golden__auc=0.5,
            candidate__golden__ece=0.3,
            candidate__parity_gap=0.1,
            golden__without_features=2,
            candidate__slices__origin__JFK={"n": 99, "auc": 0.51},
            candidate__decision__nan=1,
        ),
    )
    assert len(found["failures"]) >= 7
    assert found["verdict"] == "refused"


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("candidate__golden__auc", "golden auc"),
        ("candidate__golden__ece", "golden ece"),
        ("candidate__parity_gap", "onnx parity gap"),
    ],
)
@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), "0.9", True])
def test_what_is_no_number_does_not_pass(path: str, sentence: str, value: Any) -> None:
    found = verdict(days_of_luck(1, 0.1, 0.9), report(**{path: value}))
    assert found["verdict"] == "refused"
    assert found["failures"][0].startswith(f"{sentence}: not measured")


def test_a_slice_without_rows_and_a_check_without_limits_are_refused() -> None:
    gate = SETTINGS.gate.model_copy(
        update={
            "slices": {"carrier": SETTINGS.gate.slices["origin"]},
            "behaviour": {"heavy rain": Behaviour(set={"precip": 0.3})},
        }
    )
    found = stage.judge(report(), days_of_luck(1, 0.1, 0.9), gate, SETTINGS.golden)
    assert [f.split(":")[0] for f in found.unfit] == ["slices by carrier", "behaviour heavy rain"]


def test_equal_models_are_rarely_promoted_and_rows_drawn_alone_would_promote_many() -> None:
    """400 pairs of equally good models whose errors come by day; the nominal rate is half of 5%."""
    options = SETTINGS.gate.promotion
    promoted = by_rows = 0
    for seed in range(400):
        rows = days_of_luck(1000 + seed, 0.4, 0.4)
        day, late, ours, theirs = (np.asarray(rows[c]) for c in ("day", "late", "p_candidate", "p_champion"))
        found = stats.compare(day, late, ours, theirs, resamples=400, confidence=options.confidence, seed=seed)
        promoted += found.d_log_loss.hi < 0 and found.d_auc.lo >= -options.max_auc_loss
        extra = stats.losses(late, ours) - stats.losses(late, theirs)
        by_rows += bool(extra.mean() + norm.ppf(0.975) * extra.std(ddof=1) / np.sqrt(len(extra)) < 0)
    interval = binomtest(promoted, 400).proportion_ci()
    print(
        f"equal models promoted: {promoted / 400:.3f} [{interval.low:.3f}, {interval.high:.3f}]; by rows {by_rows / 400:.3f}"
    )
    assert promoted / 400 <= 0.05, "more than twice the nominal rate: the bootstrap no longer resamples days"
    assert by_rows / 400 >= 0.12, "the simulated days share no luck, so this test would not notice a bootstrap of rows"
