"""The end of a month, which the next month's look-back can still see."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from models.flights.params import FeatureParams
from models.flights.reading.clock import FEED_ZONE, local_minutes, month_days


def tail(kept: pa.Table, table: str, month: str, settings: FeatureParams) -> pa.Table:
    """The kept rows of the last local days of ``month`` that trailing windows of the next can see, in their order."""
    days, last = settings.lookback.days, month_days(month)[1]
    if table == "flights":
        day = kept["date"].cast(pa.int32()).to_numpy()
    else:
        day = local_minutes(kept["observed_at"].to_numpy(), FEED_ZONE) // 1440
    return kept.filter(pa.array(np.asarray(day > last - days)))
