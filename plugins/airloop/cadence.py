"""What a model's calendar means for Airflow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airloop.model import Model


def calendar(model: Model) -> dict[str, Any]:
    """Arguments of a DAG that has one run for each interval of ``model``: timetable, first and last."""
    from airflow.sdk import CronDataIntervalTimetable

    cadence = model.cadence
    return {
        "schedule": CronDataIntervalTimetable(cadence.cron, timezone=cadence.zone),
        "start_date": cadence.start(model.first),
        # Without an end, a DAG that is switched on runs the last interval before today.
        "end_date": cadence.start(model.last) if model.last else None,
    }
