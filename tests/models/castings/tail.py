"""What the look-back of later days can still see."""

from __future__ import annotations

import pyarrow as pa

from models.castings.params import FeatureParams


def tail(kept: pa.Table, table: str, day: str, settings: FeatureParams) -> pa.Table:
    """The whole day: the look-back reaches over several."""
    return kept
