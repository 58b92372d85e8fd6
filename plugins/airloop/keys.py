"""What a run is about and what it is called: its model, its interval, its key, and who asked for it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from airloop.model import find

NO_INTERVAL = "by-hand"


def model_of(context: Mapping[str, Any]) -> str:
    """The run's model: what its DAG's id begins with."""
    return str(context["dag_run"].dag_id).partition(".")[0]


def interval_of(context: Mapping[str, Any]) -> str | None:
    """The run's interval: its partition key, else the form's ``interval``, else the start of its data interval.

    None for a run started by hand without one.
    """
    run = context["dag_run"]
    if run.partition_key:
        return str(run.partition_key)
    if interval := (context.get("params") or {}).get("interval"):
        return str(interval)
    if run.data_interval_start and run.data_interval_start != run.data_interval_end:
        return find(model_of(context)).cadence.key_at(run.data_interval_start)
    return None


def require_interval(context: Mapping[str, Any]) -> str:
    """The run's interval; ValueError that says how to name one."""
    interval = interval_of(context)
    if interval is None:
        dag = context["dag_run"].dag_id
        raise ValueError(
            f"This run of {dag} is about no interval. Give it one: fill in `interval` in the form, or "
            f'airflow dags trigger {dag} -c \'{{"interval": "2013-04"}}\'.'
        )
    return interval


def span_of(context: Mapping[str, Any]) -> tuple[str, str]:
    """The run's first and last interval: from its own through the form's ``through``, where that is filled in.

    Raises:
        ValueError: the run has no interval, or one that comes after ``through``.
    """
    first = require_interval(context)
    last = str((context.get("params") or {}).get("through") or first)
    if last < first:
        raise ValueError(f"`through` {last} is before `interval` {first}; exchange them.")
    return first, last


def intervals_of(context: Mapping[str, Any]) -> list[str]:
    """All intervals of the run's span, in order; empty for a run that has none."""
    try:
        first, last = span_of(context)
    except ValueError:
        return []
    return [first] if first == last else find(model_of(context)).cadence.span(first, last)


def run_key(context: Mapping[str, Any]) -> str:
    """``<model>-ingest-2013-04-1a2b3c4d``: the DAG's id, the interval, and 8 hex digits of the run id's sha256.

    The same for every try. No colons, which Hadoop's paths reject, and short enough for a label of Kubernetes.
    """
    run = context["dag_run"]
    digest = hashlib.sha256(run.run_id.encode()).hexdigest()[:8]
    return f"{run.dag_id.replace('.', '-')}-{interval_of(context) or NO_INTERVAL}-{digest}"


def who(context: Mapping[str, Any]) -> str:
    """Who asked for this run, for the ledger: DAG, run and, when a person started it, their name."""
    run = context["dag_run"]
    user = getattr(run, "triggering_user_name", None)
    return f"airflow: {run.dag_id} {run.run_id}" + (f" by {user}" if user else "")


def variables(context: Mapping[str, Any]) -> dict[str, str]:
    """What a task's process or pod needs to know of its run besides its command line, as environment variables."""
    return {"AIRLOOP_RUN": run_key(context), "AIRLOOP_WHO": who(context)}
