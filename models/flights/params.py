"""The section of params.yaml beside it that the flights type themselves."""

from __future__ import annotations

import datetime as dt

from tasks.core.frozen import Frozen
from tasks.settings.value_types import Positive


class FeatureParams(Frozen):
    """The ``features`` stage, and the online service's lookups."""

    day_zero: dt.date
    """Day number 0 of the column ``day``. Golden, decision and validation days are chosen by day number modulo."""
    horizon_hours: Positive
    """T is this many hours before the scheduled hour."""
    trailing_days: Positive
    """Length of the trailing window of the late rates, in days before T."""
    departure_hours: Positive
    """Length of the window of the origin's late-departure share, in hours before T."""
    late_minutes: Positive
    """Delay in minutes from which a departure or an arrival counts as late."""

    @property
    def lookback(self) -> dt.timedelta:
        """How far features see: what left late or arrived a day later than planned counts in the trailing window too."""
        return dt.timedelta(days=self.trailing_days + 2)


SECTIONS = {"features": FeatureParams}
