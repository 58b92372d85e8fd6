"""Which flights were late, as far as an interval has it."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from models.flights.definitions import KEY, LABEL
from models.flights.params import FeatureParams


def labels(kept: Mapping[str, pa.Table], params: FeatureParams) -> pa.Table:
    """Key and outcome of each flight that arrived as scheduled."""
    arrived = kept["flights"].filter(pc.is_valid(kept["flights"]["arr_delay"]))
    late = pc.greater_equal(arrived["arr_delay"], params.late_minutes).cast(pa.int8())
    return arrived.select(KEY).append_column(LABEL, late)
