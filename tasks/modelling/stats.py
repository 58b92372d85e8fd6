"""Measures of probabilities, and how sure one can be of a difference when rows of one day share their luck.

What rows of one day share makes the day good or bad as a whole, so days are what is drawn again in the bootstrap. Drawing
rows pretends to ten or thirty times more evidence than there is (measured: the standard error of an interval's AUC is six
times too small).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

Floats = npt.NDArray[np.floating[Any]]
Labels = npt.NDArray[np.integer[Any]]

CLIP = 1e-7
"""Probabilities are kept this far from 0 and 1 in the log loss: float32 cannot say more."""


def auc(labels: Labels, scores: Floats) -> float | None:
    """ROC-AUC: the chance that a positive outscores a negative, ties half. None without both classes, or with NaN."""
    positives = int(labels.sum())
    negatives = len(labels) - positives
    if not positives or not negatives or np.isnan(scores).any():
        return None
    ranks = rankdata(scores)[labels == 1].sum()
    return float((ranks - positives * (positives + 1) / 2) / (positives * negatives))


def losses(labels: Labels, scores: Floats) -> npt.NDArray[np.float64]:
    """Log loss of each row, in nats; NaN where the score is."""
    p = np.clip(scores.astype(np.float64), CLIP, 1 - CLIP)
    return -np.where(labels == 1, np.log(p), np.log1p(-p))


def reliability(labels: Labels, scores: Floats, bins: int) -> list[dict[str, float]]:
    """Mean score, observed share and rows of each occupied bin of equal width, in order."""
    index = np.minimum((scores.astype(np.float64) * bins).astype(np.int64), bins - 1)
    counts = np.bincount(index, minlength=bins)
    predicted = np.bincount(index, weights=scores.astype(np.float64), minlength=bins)
    observed = np.bincount(index, weights=labels.astype(np.float64), minlength=bins)
    return [
        {"n": int(n), "predicted": float(predicted[b] / n), "observed": float(observed[b] / n)}
        for b, n in enumerate(counts)
        if n
    ]


def ece(labels: Labels, scores: Floats, bins: int) -> float:
    """Expected calibration error: the mean over rows of |mean score - observed share| of the row's bin."""
    table = reliability(labels, scores, bins)
    return float(sum(row["n"] * abs(row["predicted"] - row["observed"]) for row in table) / len(labels))


def metrics(labels: Labels, scores: Floats, bins: int) -> dict[str, float | int | None]:
    """n, positives, nan (rows without a score), auc, log_loss, brier and ece.

    One NaN makes every measure None: a model that cannot score a row is not judged on the others.
    """
    found: dict[str, float | int | None] = {
        "n": len(labels),
        "positives": int(labels.sum()),
        "nan": int(np.isnan(scores).sum()),
    }
    if found["nan"] or not len(labels):
        return found | dict.fromkeys(("auc", "log_loss", "brier", "ece"))
    return found | {
        "auc": auc(labels, scores),
        "log_loss": float(losses(labels, scores).mean()),
        "brier": float(((scores.astype(np.float64) - labels) ** 2).mean()),
        "ece": ece(labels, scores, bins),
    }


@dataclass(frozen=True)
class ConfidenceInterval:
    """A difference and its bootstrap interval."""

    mean: float
    lo: float
    hi: float


@dataclass(frozen=True)
class Comparison:
    """Candidate less champion over the same rows: below 0 is better in log loss, above 0 in AUC."""

    days: int
    rows: int
    d_log_loss: ConfidenceInterval
    d_auc: ConfidenceInterval


def compare(
    days: Labels, labels: Labels, candidate: Floats, champion: Floats, *, resamples: int, confidence: float, seed: int
) -> Comparison:
    """Day-clustered paired bootstrap: whole days are drawn with replacement, both models judged on the same draw.

    Args:
        days: Day of each row, any integers, [n].
        labels: 0 or 1, [n], both present.
        candidate: Its probabilities, [n], no NaN.
        champion: Its probabilities of the same rows, [n], no NaN.
        resamples: Number of draws.
        confidence: Two-sided level of the intervals.
        seed: Seed of the draws.

    Returns:
        Differences over all rows, with intervals.
    """
    unique, cluster = np.unique(days, return_inverse=True)
    k = len(unique)
    weights = np.vstack([np.ones(k), np.random.default_rng(seed).multinomial(k, np.full(k, 1 / k), size=resamples)])
    extra = losses(labels, candidate) - losses(labels, champion)
    sums, counts = np.bincount(cluster, weights=extra, minlength=k), np.bincount(cluster, minlength=k)
    d_log_loss = (weights @ sums) / (weights @ counts)
    d_auc = _aucs(weights, cluster, labels, candidate) - _aucs(weights, cluster, labels, champion)
    return Comparison(k, len(labels), _interval(d_log_loss, k, confidence), _interval(d_auc, k, confidence))


def mean_by_days(sums: Floats, counts: Floats, *, resamples: int, confidence: float, seed: int) -> ConfidenceInterval:
    """Mean over rows of something that is summed by day, with its interval: whole days are drawn with replacement.

    Args:
        sums: Of each day, [k].
        counts: Rows of each day, [k].
        resamples: Number of draws.
        confidence: Two-sided level of the interval.
        seed: Seed of the draws.
    """
    k = len(sums)
    weights = np.vstack([np.ones(k), np.random.default_rng(seed).multinomial(k, np.full(k, 1 / k), size=resamples)])
    return _interval((weights @ sums) / (weights @ counts), k, confidence)


@dataclass(frozen=True)
class Spread:
    """A measure of one model, its standard error over days and its interval (Student's t on the standard error).

    Not a percentile interval: noise can only raise an ECE, so draws of a good model's ECE lie above the estimate.
    """

    value: float
    se: float
    lo: float
    hi: float


def spreads(
    days: Labels, labels: Labels, scores: Floats, *, bins: int, resamples: int, confidence: float, seed: int
) -> dict[str, Spread]:
    """``auc``, ``log_loss`` and ``ece`` of one model with their noise: whole days are drawn with replacement.

    Args:
        days: Day of each row, any integers, at least two different ones, [n].
        labels: 0 or 1, [n], both present.
        scores: Probabilities, [n], no NaN.
        bins: Bins of the ECE, of equal width.
        resamples: Number of draws.
        confidence: Two-sided level of the intervals.
        seed: Seed of the draws.
    """
    unique, cluster = np.unique(days, return_inverse=True)
    k = len(unique)
    weights = np.vstack([np.ones(k), np.random.default_rng(seed).multinomial(k, np.full(k, 1 / k), size=resamples)])
    counts = weights @ np.bincount(cluster, minlength=k)
    wide = scores.astype(np.float64)
    cell = cluster * bins + np.minimum((wide * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(cell, weights=wide - labels, minlength=k * bins).reshape(k, bins)
    draws = {
        "auc": _aucs(weights, cluster, labels, scores),
        "log_loss": weights @ np.bincount(cluster, weights=losses(labels, scores), minlength=k) / counts,
        "ece": np.abs(weights @ gaps).sum(axis=1) / counts,
    }
    return {name: _spread(found, k, confidence, 1.0 if name != "log_loss" else np.inf) for name, found in draws.items()}


def _spread(draws: npt.NDArray[np.float64], clusters: int, confidence: float, highest: float) -> Spread:
    """Estimate ``draws[0]`` with the standard error of ``draws[1:]``, corrected for drawing few clusters."""
    from scipy.stats import t

    value, se = float(draws[0]), float(np.nanstd(draws[1:]) * np.sqrt(clusters / (clusters - 1)))
    half = float(t.ppf((1 + confidence) / 2, clusters - 1)) * se
    return Spread(value, se, max(0.0, value - half), min(highest, value + half))


def _interval(draws: npt.NDArray[np.float64], clusters: int, confidence: float) -> ConfidenceInterval:
    """Percentile interval of ``draws[1:]``, widened about the estimate ``draws[0]`` for few clusters.

    Drawing k clusters understates the variance by (k - 1) / k, and a percentile interval takes the noise for known:
    the factor is the exact correction of both for a mean of normal values (Student's t), 1.06 at 28 days.
    """
    from scipy.stats import norm, t

    tail = (1 - confidence) / 2
    widen = float(t.ppf(1 - tail, clusters - 1) / norm.ppf(1 - tail) * np.sqrt(clusters / (clusters - 1)))
    mean = float(draws[0])
    lo, hi = np.nanquantile(draws[1:], [tail, 1 - tail])
    return ConfidenceInterval(mean, mean + widen * (float(lo) - mean), mean + widen * (float(hi) - mean))


def _aucs(
    weights: npt.NDArray[np.float64], cluster: npt.NDArray[np.intp], labels: Labels, scores: Floats
) -> npt.NDArray[np.float64]:
    """AUC of each draw [resamples]: exact, and without touching the rows again.

    wins[i, j] counts the pairs in which a positive of day i outscores a negative of day j (ties half); a draw that
    holds day i w_i times has w' wins w such pairs among (w' positives) (w' negatives).
    """
    k = weights.shape[1]
    positive = labels == 1
    ranks = rankdata(scores, method="dense")  # ties stay ties, and integers compare fast
    wins = np.empty((k, k))
    for j in range(k):
        negatives = np.sort(ranks[~positive & (cluster == j)])
        below = np.searchsorted(negatives, ranks[positive], "left") + np.searchsorted(
            negatives, ranks[positive], "right"
        )
        wins[:, j] = np.bincount(cluster[positive], weights=below / 2, minlength=k)
    up = weights @ np.bincount(cluster[positive], minlength=k)
    down = weights @ np.bincount(cluster[~positive], minlength=k)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.einsum("bi,ij,bj->b", weights, wins, weights, optimize=True) / (up * down))
