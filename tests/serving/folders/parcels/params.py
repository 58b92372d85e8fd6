"""Its settings."""

from __future__ import annotations

import datetime as dt

from tasks.core.frozen import Frozen


class ParcelFeatures(Frozen):
    heavy_grams: int

    @property
    def lookback(self) -> dt.timedelta:
        """Not at all."""
        return dt.timedelta(0)


SECTIONS = {"features": ParcelFeatures}
