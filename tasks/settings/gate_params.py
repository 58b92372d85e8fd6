"""Settings of what is measured of a candidate, and of what it must measure to go live."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from tasks.core.frozen import Frozen
from tasks.settings.value_types import Positive, Share


class EvaluateParams(Frozen):
    """The ``evaluate`` stage."""

    calibration_bins: Positive
    """Equal-width probability bins of the expected calibration error."""
    latency_rows: Positive
    """Rows of the batch latency measurement."""
    smoke_rows: Positive
    """Golden rows that a deployed service must answer as evaluated."""


class Floors(Frozen):
    """Absolute limits on the golden set."""

    auc: Share
    """Lowest ROC-AUC."""
    ece: Share
    """Highest expected calibration error."""


class SliceFloor(Frozen):
    """Lowest AUC of each value of one column."""

    min_rows: Positive
    """Values with fewer golden rows are not judged."""
    min_auc: Share
    """Lowest ROC-AUC of a judged value."""


class Behaviour(Frozen):
    """A change to the inputs with a known direction: the mean score must follow it."""

    set: dict[str, float] = Field(default_factory=dict)
    """Features to overwrite, in their own units, on every golden row."""
    add: dict[str, float] = Field(default_factory=dict)
    """Features to shift."""
    min_shift: float | None = None
    """Lowest mean change of the score."""
    max_shift: float | None = None
    """Highest mean change of the score."""
    min_share_up: Share | None = None
    """Lowest share of rows whose score does not fall."""


class Optimism(Frozen):
    """By how much decision days flattered a challenger, as measured on past intervals (docs/decision-days.md)."""

    d_log_loss: float
    """Mean of (its log-loss difference to the champion on decision days) less (that of the next interval)."""
    d_auc: float
    """Mean of (its AUC difference to the champion on decision days) less (that of the next interval)."""


class PromotionParams(Frozen):
    """Challenger against champion, on decision days."""

    min_days: Annotated[int, Field(ge=2)]
    """Fewest decision days a comparison may rest on; one says nothing of the noise between days."""
    max_days: Positive
    """Most decision days a comparison looks at, newest first: older ones say less about what comes next."""
    resamples: Annotated[int, Field(ge=100)]
    """Day-bootstrap draws behind the intervals."""
    seed: int
    """Seed of the draws."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)]
    """Two-sided level of the day-bootstrap intervals."""
    max_auc_loss: Share
    """Largest AUC loss tolerated in a challenger whose log loss is better; its interval's lower end must be above it."""
    optimism: Optimism
    """Reported beside every comparison, never subtracted."""

    @model_validator(mode="after")
    def _days_in_order(self) -> PromotionParams:
        if self.max_days < self.min_days:
            raise ValueError(f"max_days={self.max_days} is below min_days={self.min_days}")
        return self


class GateParams(Frozen):
    """The ``gate`` stage."""

    floors: Floors
    slices: dict[str, SliceFloor]
    """Column to its floor."""
    behaviour: dict[str, Behaviour]
    """Name of a check to the change and its limits."""
    max_parity_gap: Annotated[float, Field(gt=0)]
    """Largest absolute difference of ONNX and native probabilities."""
    promotion: PromotionParams
