"""Measures against the references, and the bootstrap against drawing rows by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from tasks.modelling import stats


@pytest.fixture
def sample() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    days = np.repeat(np.arange(12) * 4 + 2, 50)
    truth = rng.normal(-1, 1, 600)
    labels = (rng.random(600) < 1 / (1 + np.exp(-truth))).astype(np.int8)
    ours, theirs = (np.round(1 / (1 + np.exp(-truth - rng.normal(0, s, 600))), 2).clip(0.01, 0.99) for s in (0.2, 0.9))
    return days, labels, ours, theirs  # rounded, so that there are ties


def test_measures_equal_scikit_learns(sample) -> None:
    _, labels, scores, _ = sample
    found = stats.metrics(labels, scores, bins=10)
    assert found["auc"] == pytest.approx(reference.roc_auc_score(labels, scores), abs=1e-12)
    assert found["log_loss"] == pytest.approx(reference.log_loss(labels, scores), abs=1e-12)
    assert found["brier"] == pytest.approx(reference.brier_score_loss(labels, scores), abs=1e-12)
    assert (found["n"], found["positives"], found["nan"]) == (600, labels.sum(), 0)


def test_ece_by_hand() -> None:
    labels = np.array([0, 1, 1, 1, 0], dtype=np.int8)
    scores = np.array([0.1, 0.15, 0.8, 1.0, 0.95])
    # bins: [.1, .15] says .125, was .5; [.8] says .8, was 1; [1.0, .95] (1.0 belongs to the last bin) says .975, was .5
    assert stats.ece(labels, scores, 10) == pytest.approx((2 * 0.375 + 1 * 0.2 + 2 * 0.475) / 5)


def test_a_single_nan_leaves_nothing_to_judge() -> None:
    found = stats.metrics(np.array([0, 1, 1], dtype=np.int8), np.array([0.1, np.nan, 0.8]), bins=10)
    assert found["nan"] == 1
    assert [found[name] for name in ("auc", "log_loss", "brier", "ece")] == [None] * 4


@pytest.mark.parametrize("labels", [[], [1, 1], [0, 0]])
def test_auc_needs_both_classes(labels: list[int]) -> None:
    assert stats.auc(np.array(labels, dtype=np.int8), np.full(len(labels), 0.5)) is None


def test_certainty_that_was_wrong_costs_much_but_not_everything() -> None:
    assert 15 < stats.losses(np.array([1]), np.array([0.0]))[0] < 17


def test_aucs_of_draws_equal_aucs_of_the_drawn_rows(sample) -> None:
    days, labels, scores, _ = sample
    unique, cluster = np.unique(days, return_inverse=True)
    weights = np.random.default_rng(1).multinomial(len(unique), np.full(len(unique), 1 / len(unique)), size=20)
    found = stats._aucs(weights.astype(float), cluster, labels, scores)
    for draw, auc in zip(weights, found, strict=True):
        rows = np.repeat(np.arange(len(labels)), draw[cluster])
        assert auc == pytest.approx(reference.roc_auc_score(labels[rows], scores[rows]), abs=1e-12)


def test_comparison_is_centred_on_the_difference_and_knows_better_from_worse(sample) -> None:
    days, labels, ours, theirs = sample
    found = stats.compare(days, labels, ours, theirs, resamples=500, confidence=0.95, seed=3)
    assert (found.days, found.rows) == (12, 600)
    assert found.d_log_loss.mean == pytest.approx(
        reference.log_loss(labels, ours) - reference.log_loss(labels, theirs), abs=1e-12
    )
    assert found.d_auc.mean == pytest.approx(
        reference.roc_auc_score(labels, ours) - reference.roc_auc_score(labels, theirs), abs=1e-12
    )
    assert found.d_log_loss.hi < 0 < found.d_auc.lo
    back = stats.compare(days, labels, theirs, ours, resamples=500, confidence=0.95, seed=3)
    assert back.d_log_loss.lo == pytest.approx(-found.d_log_loss.hi)


def test_comparison_does_not_depend_on_the_order_of_rows(sample) -> None:
    order = np.random.default_rng(5).permutation(600)
    options = {"resamples": 200, "confidence": 0.9, "seed": 3}
    one, other = stats.compare(*sample, **options), stats.compare(*(part[order] for part in sample), **options)
    assert one.d_log_loss.hi == pytest.approx(other.d_log_loss.hi, abs=1e-12)
    assert one.d_auc.lo == pytest.approx(other.d_auc.lo, abs=1e-12)


def test_interval_has_the_width_of_students_t_for_a_mean_of_days() -> None:
    from scipy.stats import t

    rng = np.random.default_rng(8)
    days = np.repeat(np.arange(28), 40)
    labels = np.tile(np.array([0, 1], dtype=np.int8), 560)
    theirs = np.full(1120, 0.5)
    by_day = rng.normal(0, 0.02, 28)
    ours = np.where(labels == 1, 0.5 + by_day[days], 0.5 - by_day[days])
    extra = stats.losses(labels, ours) - stats.losses(labels, theirs)
    per_day = np.array([extra[days == d].mean() for d in range(28)])
    half = t.ppf(0.975, 27) * per_day.std(ddof=1) / np.sqrt(28)
    found = stats.compare(days, labels, ours, theirs, resamples=20000, confidence=0.95, seed=0).d_log_loss
    assert (found.hi - found.lo) / 2 == pytest.approx(half, rel=0.05)
