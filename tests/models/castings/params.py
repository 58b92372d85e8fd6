"""The section of params.yaml beside it that the castings type themselves."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

from pydantic import Field

from tasks.core.frozen import Frozen


class FeatureParams(Frozen):
    """The ``features`` stage, and the online service's lookups."""

    days_from: dt.date
    """Day number 0 of the column ``day``."""
    trailing_hours: Annotated[int, Field(ge=1, le=168)]
    """Length of the look-back of the defect rate."""

    @property
    def lookback(self) -> dt.timedelta:
        """How far features see."""
        return dt.timedelta(hours=self.trailing_hours)


SECTIONS = {"features": FeatureParams}
