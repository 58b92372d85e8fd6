"""Settings of what a model learns from: the span, the look-back of its intervals, the rules and the golden set."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from tasks.core.frozen import Frozen
from tasks.settings.value_types import IntervalKey, Positive, Share


class SpanParams(Frozen):
    """Intervals that `airloop repro` works through unless it is given others."""

    first: IntervalKey
    """First interval; its features look back on nothing."""
    last: IntervalKey
    """Last interval."""

    @model_validator(mode="after")
    def _in_order(self) -> SpanParams:
        if self.last < self.first:
            raise ValueError(f"last={self.last} is before first={self.first}")
        return self


class Lookback(Frozen):
    """One interval of the window."""

    previous: IntervalKey
    """Interval before this one; the interval itself where there is none."""
    sees: str
    """List of the tails that its features look back on (tasks/intervals/lookback.py); its own manifest where there is none."""


class ValidateParams(Frozen):
    """The ``validate`` stage."""

    max_bad_share: Share
    """Largest share of landed rows that may be quarantined before the interval is refused."""


class GoldenParams(Frozen):
    """The ``golden`` stage."""

    intervals: Annotated[tuple[IntervalKey, ...], Field(min_length=1)]
    """Intervals the golden rows come from; the warm-up."""
    rows: Positive
    """Number of golden rows."""
    min_rows_per_value: Annotated[int, Field(ge=0)]
    """Each value of the model's represented column with at least so many eligible rows has at least so many golden rows."""
    digest: str | None
    """Pinned sha256 of the golden set; null refuses every candidate and says which digest to pin."""
