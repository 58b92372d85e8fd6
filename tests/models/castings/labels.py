"""What the inspections of a day found."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from models.castings.definitions import KEY_TYPES, LABEL
from models.castings.params import FeatureParams


def labels(kept: Mapping[str, pa.Table], _: FeatureParams) -> pa.Table:
    """Key and outcome of each casting that was inspected."""
    castings = kept["castings"].select([*KEY_TYPES, LABEL])
    return castings.filter(pc.is_valid(castings[LABEL]))
