"""What settings are made of: types of values that several sections have."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationInfo, model_validator

from tasks.core.errors import ConfigError
from tasks.core.frozen import Frozen
from tasks.core.model_names import LENGTH, NAME
from tasks.intervals.cadence import KEY

CADENCE = "cadence"
"""In the context of a validation, the cadence that keys of intervals must be of."""


def _key(value: Any, info: ValidationInfo) -> Any:
    if info.context and CADENCE in info.context:
        try:
            info.context[CADENCE].check(value)
        except ConfigError as error:
            raise ValueError(str(error)) from None
    return value


IntervalKey = Annotated[str, BeforeValidator(_key), Field(pattern=f"^{KEY}$")]
"""Key of an interval; in settings, one of the model's cadence."""
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]
ModelName = Annotated[str, Field(pattern=f"^{NAME.pattern}$", max_length=LENGTH)]


class DayRule(Frozen):
    """A set of days: those whose day number (days since the model's day zero) modulo ``every`` is ``remainder``."""

    every: Positive
    """Period in days."""
    remainder: Annotated[int, Field(ge=0)]
    """Which day of each period."""

    @model_validator(mode="after")
    def _in_period(self) -> DayRule:
        if self.remainder >= self.every:
            raise ValueError(f"remainder={self.remainder} never occurs modulo every={self.every}")
        return self
