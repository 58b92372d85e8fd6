"""Settings of the search for better ones before a training."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from tasks.core.frozen import Frozen
from tasks.settings.value_types import Positive, Share


class Range(Frozen):
    """Values of a setting from ``low`` to ``high``, both included; whole numbers where both are."""

    low: int | float
    """Smallest,"""
    high: int | float
    """and largest that is tried."""
    log: bool = False
    """Whether equal factors are equally likely, rather than equal differences."""

    @model_validator(mode="after")
    def _is_one(self) -> Range:
        if not self.low < self.high:
            raise ValueError(f"low={self.low} is not below high={self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"low={self.low} has no logarithm; set log: false")
        return self


class Choices(Frozen):
    """Values of a setting that have no order."""

    choices: Annotated[tuple[bool | int | float | str, ...], Field(min_length=2)]
    """Each of them is tried."""


Space = dict[str, Range | Choices]
"""Setting of a family's section to the values that a search tries."""


class FoldParams(Frozen):
    """How a search judges settings: train on earlier days, ask about later ones."""

    count: Positive
    """Blocks of later days, each right after the other, the last at the window's end."""
    days: Positive
    """Whole days of a block, held-out days among them; those are taken out of it."""


class PruningParams(Frozen):
    """When a search gives a trial up: its newest fold's validation loss is worse than the median of the trials before."""

    after_trials: Annotated[int, Field(ge=0)]
    """Trials that are seen to their end before any is given up."""
    after_share: Share
    """Share of a training's largest number of steps that each trial gets."""


class SearchParams(Frozen):
    """The search for settings before a training; off where it has no budget."""

    trials: Annotated[int, Field(ge=0)]
    """Budget in trials, those of earlier searches of the same study counted; 0 is no such limit."""
    minutes: Annotated[float, Field(ge=0)]
    """Budget in minutes of trials, counted likewise; 0 is no such limit. A budget in minutes is not repeatable."""
    folds: FoldParams
    """On which days settings are judged."""
    pruning: PruningParams
    """When a trial is not worth its end."""
    space: dict[str, Space]
    """Family to the settings that are searched; all others stay as they are."""

    @property
    def on(self) -> bool:
        """Whether it has a budget."""
        return bool(self.trials or self.minutes)
