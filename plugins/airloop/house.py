"""House defaults: what every task has, and the forms for runs started by hand."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Param

from airloop.notify import report_failure

MONTH_PATTERN = r"^\d{4}-(0[1-9]|1[0-2])$"

DEFAULT_ARGS: dict[str, Any] = {
    "owner": "airloop",
    # For what heals by itself: a killed worker, a service that restarts. A refusal is never retried (see process.py).
    "retries": 2,
    "retry_delay": timedelta(seconds=10),
    "retry_exponential_backoff": 2,
    "max_retry_delay": timedelta(minutes=2),
    "execution_timeout": timedelta(minutes=15),
    "on_failure_callback": report_failure,
}
"""For ``@dag(default_args=...)``; a stage takes its timeout from its ``meta`` in dvc.yaml."""


def month_param(description: str) -> Param:
    """The form's field for a month; empty means: the month that the run is about anyway."""
    return Param(None, type=["null", "string"], pattern=MONTH_PATTERN, title="Month (YYYY-MM)", description=description)


def by_hand(schema: dict[str, Any], *, title: str, description: str) -> Param:
    """An optional field of the form, empty by default; ``schema`` is JSON schema."""
    types = schema.get("type", "string")
    allowed = ["null", *([types] if isinstance(types, str) else types)]
    return Param(None, title=title, description=description, **{**schema, "type": allowed})
