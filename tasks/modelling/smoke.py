"""Golden rows of a model: what it must answer wherever it runs, as its evaluation recorded it.

A replica asks the model itself before it becomes ready, from the features that the evaluation saw; the job deploy asks the
whole service, as a client would. Features are kept, because an interval that lands again changes what the service would make.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.core.errors import DataError
from tasks.storage.artefacts import Store

TOLERANCE = 1e-6
"""Largest difference between a row's probability here and in the evaluation, unless the row has a ``tolerance`` of its own."""
_NO_KEY = {"features", "probability", "tolerance"}

Row = Mapping[str, Any]
"""What the service is asked with, ``probability`` of the evaluation, and ``features`` (model input by name)."""


def read(model: str, store: Store) -> list[Row]:
    """The golden rows of the model with the digest ``model``; DataError when there are none to read."""
    name = f"models/{model}/smoke.json"
    try:
        rows = store.read_json(name)
    except FileNotFoundError:
        rows = None
    except ValueError as error:
        raise DataError(f"{store.uri(name)} is damaged ({error}); restore it from a backup of the store.") from None
    if not rows:
        raise DataError(f"{store.uri(name)} has no golden rows, so the model cannot be tried; train it again.")
    return list(rows)


def difference(rows: Sequence[Row], answers: Sequence[float]) -> str | None:
    """The first of ``rows`` that is answered otherwise than in the evaluation, in a sentence; None when none is."""
    for row, answer in zip(rows, answers, strict=True):
        expected = row["probability"]
        what = ", ".join(f"{name} {value}" for name, value in row.items() if name not in _NO_KEY)
        if not 0 <= answer <= 1:  # NaN too
            return f"the model answers {answer} for {what}, which is no probability"
        if expected is None or not abs(answer - expected) <= row.get("tolerance", TOLERANCE):
            return f"the model answers {answer:.6f} for {what}; its evaluation had {expected}"
    return None
