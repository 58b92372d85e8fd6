"""What the online service knows: the inspections of the landed days."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping
from itertools import accumulate

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.castings.definitions import DAYS, DEFECT_RATE, FIRST, LABEL
from models.castings.params import FeatureParams
from models.castings.request import CastingRequest
from tasks.core.instants import iso
from tasks.spec import Known
from tasks.storage.artefacts import Store
from tasks.storage.state_file import StateFile

COLUMNS = ("mould", "inspected_at", LABEL)


def state_tables(kept: Mapping[str, pa.Table]) -> dict[str, pa.Table]:
    """The inspections of a day, sorted."""
    castings = kept["castings"].select(COLUMNS)
    found = castings.filter(pc.is_valid(castings[LABEL])).sort_by([(name, "ascending") for name in COLUMNS])
    return {"inspections": found.replace_schema_metadata(None)}


def read_state(store: Store, files: Mapping[str, StateFile]) -> dict[str, pa.Table]:
    """The inspections of a day from its item in the index."""
    return {name: pq.read_table(pa.BufferReader(store.read(file.name, file.sha256))) for name, file in files.items()}


class State:
    """Each mould's inspections in the order of time."""

    def __init__(self, tables: Mapping[str, Mapping[str, pa.Table]], params: FeatureParams) -> None:
        """``tables``: day to its state tables."""
        self.params = params
        self.intervals = sorted(tables)
        by_mould: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for day in self.intervals:
            columns = (tables[day]["inspections"][name].to_pylist() for name in COLUMNS)
            for mould, at, defective in zip(*columns, strict=True):
                by_mould[mould].append((at, defective))
        ordered = {mould: sorted(events) for mould, events in by_mould.items()}
        self._times = {mould: [at for at, _ in events] for mould, events in ordered.items()}
        self._defects = {mould: [0, *accumulate(d for _, d in events)] for mould, events in ordered.items()}
        self.as_of: int | None = max((times[-1] for times in self._times.values()), default=None)

    def known(self, casting: CastingRequest) -> Known:
        """Every feature of ``casting`` when it is poured."""
        at = int(casting.poured_at.timestamp())
        times, defects = self._times.get(casting.mould, []), self._defects.get(casting.mould, [0])
        first, last = bisect_left(times, at - self.params.trailing_hours * 3600), bisect_left(times, at)
        rate = (defects[last] - defects[first]) / (last - first) if last > first else None
        today = DAYS.key_at(casting.poured_at)
        seen = DAYS.span(max(FIRST, DAYS.back(today, self.params.lookback)), today)
        missing = [day for day in seen if day not in self.intervals]
        reasons = [f"{' and '.join(missing)} has not landed at {iso(at)}"] if missing else []
        features = {"mould": casting.mould, "alloy": casting.alloy, "melt_celsius": casting.melt_celsius,
                    "pour_seconds": casting.pour_seconds, DEFECT_RATE: rate}  # fmt: skip
        return Known(features, at, reasons)
