"""Labels meet predictions: how good a model was on a landed interval, and how sure one can be of that."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from pandas.errors import MergeError

from tasks import spec
from tasks.core.errors import DataError
from tasks.modelling import stats
from tasks.settings.params import Params

Scores = npt.NDArray[np.float64]


def match(features: pa.Table, predictions: pa.Table, source: str) -> Scores:
    """Probability of each row of ``features``, in its order.

    Args:
        features: The interval's feature rows; only the key is read.
        predictions: Key and ``probability`` of the same rows, in any order.
        source: Where the predictions come from, for the error.

    Raises:
        DataError: a row without prediction, a prediction without row, or a key twice. Scoring covers every row of the
            data it names, so a gap means that the two do not belong together, and an average would hide which.
    """
    key = list(spec.current().key)
    left = features.select(key).to_pandas()
    right = predictions.select([*key, "probability"]).to_pandas()
    try:
        joined = left.reset_index(names="row").merge(right, how="outer", on=key, indicator="side", validate="1:1")
    except MergeError:
        raise DataError(f"{source} or the features it belongs to hold a row twice; score the interval again.") from None
    alone = joined[joined["side"] != "both"]
    if len(alone):
        lacking, surplus = int((alone["side"] == "left_only").sum()), int((alone["side"] == "right_only").sum())
        example = ", ".join(str(value) for value in alone.iloc[0][key])
        raise DataError(
            f"{source} does not fit the interval's features: {lacking} rows without a prediction, {surplus} predictions "
            f"without a row (for example {example}). Run the score DAG for the interval again."
        )
    found: Scores = joined.sort_values("row")["probability"].to_numpy(np.float64)
    return found


def usable(scores: Scores) -> npt.NDArray[np.bool_]:
    """Whether each score is a probability: NaN and values outside 0 to 1 are not."""
    with np.errstate(invalid="ignore"):
        return np.asarray((scores >= 0) & (scores <= 1))


def measure(features: pa.Table, scores: Scores, settings: Params) -> dict[str, Any]:
    """How good ``scores`` were on the labelled rows.

    Rows without a usable score are counted (``unusable``) and left out. Where too little is left to measure,
    ``auc``, ``log_loss`` and ``ece`` are None and ``why_not`` says what is missing.
    """
    model = spec.current()
    rows = pd.DataFrame({"date": features[model.date].to_pandas(), "day": features["day"].to_numpy(),
                         "label": features[model.label].to_numpy(), "score": scores})  # fmt: skip
    labelled = rows[rows["label"].notna() & usable(scores)]
    labels, found = labelled["label"].to_numpy(np.int8), labelled["score"].to_numpy()
    bins, draws = settings.evaluate.calibration_bins, settings.gate.promotion
    result: dict[str, Any] = {
        "labelled": len(labelled),
        "unusable": int((~usable(scores)).sum()),
        "positive_share": float(labels.mean()) if len(labels) else None,
        "mean_score": float(found.mean()) if len(labels) else None,
        "reliability": stats.reliability(labels, found, bins),
        "daily": daily(labelled),
        "why_not": _why_not(labels, labelled["day"].nunique(), settings.monitor.min_days),
    }
    if result["why_not"]:
        return result | dict.fromkeys(("auc", "log_loss", "ece"))
    noise = stats.spreads(
        labelled["day"].to_numpy(), labels, found, bins=bins, resamples=draws.resamples,
        confidence=draws.confidence, seed=draws.seed,
    )  # fmt: skip
    return result | {name: asdict(spread) for name, spread in noise.items()}


def daily(labelled: pd.DataFrame) -> list[dict[str, Any]]:
    """Date, labelled rows, share of positive outcomes and mean score of each day, in order."""
    grouped = labelled.groupby("date", sort=True).agg(
        n=("label", "size"), positive=("label", "mean"), score=("score", "mean")
    )
    return [
        {
            "date": str(date),
            "n": int(row["n"]),
            "positive_share": float(row["positive"]),
            "mean_score": float(row["score"]),
        }
        for date, row in grouped.iterrows()
    ]


def _why_not(labels: npt.NDArray[np.int8], days: int, fewest: int) -> str | None:
    if not len(labels):
        return "no row has both a label and a usable score"
    if labels.min() == labels.max():
        return f"all {len(labels)} labels are {labels[0]}"
    return None if days >= fewest else f"the labels are of {days} day(s), and monitor.min_days is {fewest}"
