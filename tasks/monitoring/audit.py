"""Was the last promotion right? The first interval that the new champion scored shows it, with the old one as its shadow.

The gate compares on days between training days, which flatters a challenger (docs/adr/0050); the interval after does not.
Nothing here acts: the answer is a recommendation with its uncertainty.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa

from tasks import spec
from tasks.modelling import stats
from tasks.monitoring.measure import Scores, usable
from tasks.registry.ledger import Entry
from tasks.settings.params import Params


def promotion(entries: list[Entry], interval: str, champion: int) -> Entry | None:
    """The promotion that made ``champion`` live from ``interval`` on, None when this was not its first interval."""
    found = [e for e in entries if (e.action, e.to_version, e.effective_from) == ("promote", champion, interval)]
    return found[-1] if found else None


def audit(
    features: pa.Table, champion: tuple[int, Scores], shadow: tuple[int, Scores], settings: Params
) -> dict[str, Any] | None:
    """Champion less shadow on the rows that both scored; None when those cannot be compared.

    Args:
        features: The interval's rows.
        champion: Version and scores of the promoted model.
        shadow: Version and scores of the model it replaced.
        settings: For the bootstrap.
    """
    labels = features[spec.current().label].to_numpy()
    both = ~np.isnan(labels.astype(np.float64)) & usable(champion[1]) & usable(shadow[1])
    known, days = labels[both].astype(np.int8), features["day"].to_numpy()[both]
    if len(np.unique(known)) < 2 or len(np.unique(days)) < 2:
        return None
    draws = settings.gate.promotion
    found = stats.compare(
        days, known, champion[1][both], shadow[1][both], resamples=draws.resamples, confidence=draws.confidence,
        seed=draws.seed,
    )  # fmt: skip
    return conclude(champion[0], shadow[0], found, draws.confidence)


def conclude(champion: int, shadow: int, found: stats.Comparison, confidence: float) -> dict[str, Any]:
    """The comparison with what it means; ``rollback`` unless the champion's log loss was the lower one."""
    loss = found.d_log_loss
    won = loss.mean < 0
    sure = loss.hi < 0 if won else loss.lo > 0
    interval = f"{confidence:.0%} interval {loss.lo:+.4f} to {loss.hi:+.4f} over {found.days} days"
    sentence = (
        f"v{champion} {'beat' if won else 'did not beat'} v{shadow}, which it replaced: log loss {loss.mean:+.4f} ({interval}). "
        + ("The interval leaves no doubt." if sure else "The interval holds 0: this may be the luck of the days.")
    )
    return {
        "champion": champion,
        "shadow": shadow,
        "beat_shadow": won,
        "sure": sure,
        "rollback": not won,
        "command": None if won else f"airloop rollback {shadow} --model {spec.current().name}",
        "sentence": sentence,
        **asdict(found),
    }
