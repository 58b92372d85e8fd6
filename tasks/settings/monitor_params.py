"""Settings of the monitor."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tasks.core.frozen import Frozen
from tasks.settings.value_types import IntervalKey, Positive, Share


class MonitorParams(Frozen):
    """The monitor: when labels of a landed interval call for a retrain."""

    warmup_through: IntervalKey
    """Last interval before there is a golden set; its landing asks for the first training."""
    window_intervals: Positive
    """Newest intervals whose labels are judged together, as far as the same version scored them; they must hold several days."""
    min_days: Annotated[int, Field(ge=2)]
    """Fewest days with labels on which a model is measured: days are the unit of noise."""
    max_ece: Share
    """Retrain when the interval's expected calibration error is above this."""
    min_auc: Share
    """Retrain when the interval's ROC-AUC is below this."""
    cooldown_intervals: Annotated[int, Field(ge=0)]
    """Landed intervals to wait after a retrain request before the next."""
    max_psi: Annotated[float, Field(gt=0)]
    """Population stability index of a planned feature from which a data-quality alarm is raised."""
    max_blind_share: Share
    """Share of rows without any of the features that an outage of the feed takes away, from which it is reported."""
    report_rows: Positive
    """Rows sampled for Evidently's report."""
