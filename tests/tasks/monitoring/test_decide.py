"""The rule on constructed numbers, and records that lose no request and make none twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.core.urls import url_of
from tasks.monitoring.decide import Decision, Facts, Past, asked_before, claim, decide, record, recorded
from tasks.settings.monitor_params import MonitorParams
from tasks.storage.artefacts import Store

LIMITS = MonitorParams(
    window_intervals=1,
    min_days=2,
    warmup_through="2013-03",
    max_ece=0.05,
    min_auc=0.70,
    cooldown_intervals=0,
    max_psi=0.25,
    max_blind_share=0.02,
    report_rows=100,
)
GOOD = {"champion": 1, "auc": 0.72, "ece": 0.03}


def facts(interval: str = "2013-05", features: str = "a" * 32, **given: object) -> Facts:
    return Facts(interval=interval, features=features, **{**GOOD, **given})  # type: ignore[arg-type]  # made by keyword


@pytest.mark.parametrize(
    ("given", "outcome", "words"),
    [
        ({}, "keep", "ECE 0.0300 <= 0.05 and AUC 0.7200 >= 0.7"),
        ({"ece": 0.05}, "keep", "<= 0.05"),
        ({"ece": 0.0501}, "retrain", "ECE 0.0501 > 0.05"),
        ({"auc": 0.70}, "keep", ">= 0.7"),
        ({"auc": 0.6999}, "retrain", "AUC 0.6999 < 0.7"),
        ({"auc": 0.60, "ece": 0.09}, "retrain", "ECE 0.0900 > 0.05 and AUC 0.6000 < 0.7"),
        ({"auc": None, "ece": None, "why_not": "all 9 labels are 0"}, "not measured", "all 9 labels are 0"),
        ({"champion": None, "interval": "2013-02"}, "warming up", "no model is live yet"),
        ({"champion": None, "interval": "2013-03"}, "retrain", "warm-up through 2013-03 is over"),
        ({"champion": None, "interval": "2013-06"}, "retrain", "warm-up through 2013-03 is over"),
        ({"champion": None, "interval": "2013-02", "why_not": "nothing"}, "warming up", "no model is live yet"),
    ],
)
def test_the_rule(given: dict[str, object], outcome: str, words: str) -> None:
    decision = decide(facts(**given), Past(), LIMITS)
    assert (decision.outcome, decision.retrain) == (outcome, outcome == "retrain")
    assert words in decision.reason


@pytest.mark.parametrize(
    ("cooldown", "asked", "landed", "outcome"),
    [
        (0, ("2013-04",), ("2013-04", "2013-05"), "retrain"),
        (1, ("2013-04",), ("2013-04", "2013-05"), "cooling down"),
        (1, ("2013-03",), ("2013-03", "2013-04", "2013-05"), "retrain"),
        (2, ("2013-03",), ("2013-03", "2013-04", "2013-05"), "cooling down"),
        (2, ("2013-01",), ("2013-01", "2013-05"), "cooling down"),  # intervals that never landed do not count
        (3, ("2013-07",), ("2013-05", "2013-07"), "retrain"),  # a later interval's request is not before this one
        (1, ("2013-05",), ("2013-05",), "cooling down"),  # landed again within its own cooldown
        (0, ("2013-05",), ("2013-05",), "retrain"),
        (3, (), ("2013-05",), "retrain"),
    ],
)
def test_the_cooldown_counts_landed_intervals(
    cooldown: int, asked: tuple[str, ...], landed: tuple[str, ...], outcome: str
) -> None:
    limits = LIMITS.model_copy(update={"cooldown_intervals": cooldown})
    decision = decide(facts(ece=0.2), Past(landed=landed, asked=asked), limits)
    assert decision.outcome == outcome
    assert "ECE 0.2000 > 0.05" in decision.reason, "the breach is recorded also where nothing follows"


@pytest.mark.parametrize(
    ("live_through", "outcome"), [("2013-04", "retrain"), ("2013-05", "retrain"), ("2013-06", "superseded")]
)
def test_no_model_is_asked_for_that_would_be_older_than_the_live_one(live_through: str, outcome: str) -> None:
    assert decide(facts(ece=0.2), Past(live_through=live_through), LIMITS).outcome == outcome


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(url_of(tmp_path) if request.param == "folder" else f"memory://{tmp_path}")


def bad(**given: object) -> Decision:
    return decide(facts(**{"ece": 0.2, **given}), Past(), LIMITS)


def test_what_was_decided_of_the_same_data_and_champion_stands(store: Store) -> None:
    first = bad()
    assert recorded(store, facts()) is None
    assert record(store, first) == first
    assert record(store, decide(facts(), Past(), LIMITS)) == first, "another answer about the same key is not taken"
    assert recorded(store, facts()) == first


def test_other_data_or_another_champion_is_another_decision(store: Store) -> None:
    keys = {record(store, made).key for made in (bad(), bad(features="b" * 32), bad(champion=2), bad(champion=None))}
    assert len(keys) == 4


def test_one_run_may_ask_and_ask_again_and_no_other(store: Store) -> None:
    decision = record(store, bad())
    assert claim(store, decision, "run-a") is None
    assert claim(store, decision, "run-a") is None, "a retry must be able to say what the killed try could not"
    assert claim(store, decision, "run-b") == "run-a"
    assert claim(store, bad(champion=2), "run-b") is None


def test_nobody_claims_what_asks_for_nothing_or_what_nobody_can_act_on(store: Store) -> None:
    assert claim(store, decide(facts(), Past(), LIMITS), "run-a") is None
    assert claim(store, bad(), "") is None
    assert store.names("requests") == []


def test_intervals_that_asked_are_those_up_to_this_one(store: Store) -> None:
    for interval, ece in (("2013-04", 0.2), ("2013-05", 0.01), ("2013-06", 0.2), ("2013-07", 0.2)):
        record(store, bad(interval=interval, ece=ece))
    assert asked_before(store, "2013-06") == ("2013-04", "2013-06")
