"""``family: best``: every family is trained, and the one with the lowest log loss on the validation days faces the gate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from tasks import spec
from tasks.modelling.model import Contract
from tasks.training.families import named
from tasks.training.family import Fitted
from tasks.training.source import Source

if TYPE_CHECKING:
    from tasks.modelling.stats import ConfidenceInterval

FAMILIES = ("xgboost", "mlp")
"""In the order of their training; the first wins a tie."""
CONFIDENCE = 0.95
RESAMPLES = 2000


def choose(fitted: Mapping[str, Fitted], rows: Source, contract: Contract, seed: int) -> tuple[str, dict[str, Any]]:
    """The family to send to the gate, and what metrics.json says of the choice: nothing where there was none.

    Families stop on the validation days, so these flatter each; the gate judges on days that neither has seen.
    """
    if len(fitted) == 1:
        return next(iter(fitted)), {}
    from tasks.modelling.stats import compare, losses  # it costs half a second, which one family alone needs not

    watch = rows.table("validation")
    days, labels = np.asarray(watch["day"]), watch[spec.current().label].to_numpy()
    scores = {name: _scores(name, found, watch, contract) for name, found in fitted.items()}
    reached = {name: float(losses(labels, score).mean()) for name, score in scores.items()}
    chosen, other = sorted(reached, key=lambda name: reached[name])
    found = compare(days, labels, scores[chosen], scores[other], resamples=RESAMPLES, confidence=CONFIDENCE, seed=seed)
    comparison = {
        "chosen": chosen,
        "validation_log_loss": reached,
        "difference": {
            "days": found.days,
            "mean": found.d_log_loss.mean,
            "lo": found.d_log_loss.lo,
            "hi": found.d_log_loss.hi,
        },
        "why": _why(chosen, other, found.d_log_loss, found.days),
    }
    return chosen, {"best": comparison}


def _scores(name: str, found: Fitted, watch: pa.Table, contract: Contract) -> np.ndarray[Any, np.dtype[np.float32]]:
    """P(positive) [rows]; in batches, since a network holds many times what it is given."""
    predict = named(name).predict
    return np.concatenate([predict(found.native, contract.encode(batch)) for batch in watch.to_batches(65536)])


def _why(chosen: str, other: str, difference: ConfidenceInterval, days: int) -> str:
    certain = "which is more than luck" if difference.hi < 0 else "which may be luck"
    return (
        f"{chosen} has the lower log loss on the {days} validation days: by {-difference.mean:.5f} "
        f"({CONFIDENCE:.0%} by days: {-difference.hi:.5f} to {-difference.lo:.5f}) than {other}, {certain}."
    )
