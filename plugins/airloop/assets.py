"""The assets that join the five DAGs of a model. Each event is about one interval: the interval is the event's partition key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow.sdk import Asset, PartitionedAssetTimetable
from airflow.sdk.bases.timetable import BaseTimetable
from airflow.sdk.definitions.asset import BaseAsset


class Assets:
    """The assets of one model.

    Args:
        model: its name, which each asset's name begins with.
    """

    def __init__(self, model: str) -> None:
        self._model = model

    @property
    def landed(self) -> Asset:
        """An interval's data is in: features, counts and online state are published."""
        return self._asset("landed")

    @property
    def scored(self) -> Asset:
        """A landed interval has predictions, or is recorded as warming up."""
        return self._asset("scored")

    @property
    def retrain_requested(self) -> Asset:
        """An interval's labels, or the end of the warm-up, ask for a new model."""
        return self._asset("retrain_requested")

    @property
    def approved(self) -> Asset:
        """A model version trained through an interval passed the gate and is registered."""
        return self._asset("approved")

    @property
    def live(self) -> Asset:
        """The promotion ledger, the aliases and the online service agree on what is live."""
        return self._asset("live")

    @property
    def rescore(self) -> Asset:
        """A landed interval is to be scored again, with another champion."""
        return self._asset("rescore")

    def _asset(self, name: str) -> Asset:
        # Schemes that start with x- are the user's own: Airflow leaves them as they are.
        return Asset(name=f"{self._model}/{name}", uri=f"x-airloop://{self._model}/{name}", group="airloop")


def by_interval(assets: BaseAsset) -> BaseTimetable:
    """A schedule of one run for each interval with news of ``assets``.

    Plain asset schedules coalesce: six intervals that land while the consumer is busy would start one run.
    """
    return PartitionedAssetTimetable(assets=assets)


def announce(outlet_events: Any, asset: Asset, result: Mapping[str, Any], interval: str | None) -> None:
    """Say with the task's success that ``asset`` has news, with ``result`` as the event's extra.

    The event is about the intervals that ``result["intervals"]`` lists, else about the run's ``interval``. Nothing is said by a
    task that fails or is skipped.
    """
    events = outlet_events[asset]
    events.extra = dict(result)
    intervals = result.get("intervals") or ([interval] if interval else [])
    if intervals:
        events.add_partitions(sorted(intervals))
