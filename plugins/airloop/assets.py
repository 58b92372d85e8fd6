"""The assets that join the five DAGs. Each event is about one month: the month is the event's partition key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow.sdk import Asset, PartitionedAssetTimetable
from airflow.sdk.bases.timetable import BaseTimetable
from airflow.sdk.definitions.asset import BaseAsset


def _asset(name: str) -> Asset:
    # Schemes that start with x- are the user's own: Airflow leaves them as they are.
    return Asset(name=name, uri=f"x-airloop://{name}", group="airloop")


LANDED = _asset("landed")
"""A month's data is in: features, counts and online state are published."""
SCORED = _asset("scored")
"""A landed month has predictions, or is recorded as warming up."""
RETRAIN_REQUESTED = _asset("retrain_requested")
"""A month's labels, or the end of the warm-up, ask for a new model."""
APPROVED = _asset("approved")
"""A model trained through a month passed the gate and is registered."""
LIVE = _asset("live")
"""The promotion ledger, the aliases and the online service agree on what is live."""
RESCORE = _asset("rescore")
"""A landed month is to be scored again, with another champion."""


def by_month(assets: BaseAsset) -> BaseTimetable:
    """A schedule of one run for each month with news of ``assets``.

    Plain asset schedules coalesce: six months that land while the consumer is busy would start one run.
    """
    return PartitionedAssetTimetable(assets=assets)


def announce(outlet_events: Any, asset: Asset, result: Mapping[str, Any], month: str | None) -> None:
    """Say with the task's success that ``asset`` has news, with ``result`` as the event's extra.

    The event is about the months that ``result["months"]`` lists, else about the run's ``month``. Nothing is said by a
    task that fails or is skipped.
    """
    events = outlet_events[asset]
    events.extra = dict(result)
    months = result.get("months") or ([month] if month else [])
    if months:
        events.add_partitions(sorted(months))
