"""What the next day's look-back can still see."""

from __future__ import annotations

import pyarrow as pa

from models.castings.params import FeatureParams


def tail(kept: pa.Table, table: str, day: str, settings: FeatureParams) -> pa.Table:
    """The whole day: its first hours are 24 hours before the next day's."""
    return kept
