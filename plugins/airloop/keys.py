"""What a run is about and what it is called: its model, its month, its key, and who asked for it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

NO_MONTH = "by-hand"


def model_of(context: Mapping[str, Any]) -> str:
    """The run's model: what its DAG's id begins with."""
    return str(context["dag_run"].dag_id).partition(".")[0]


def month_of(context: Mapping[str, Any]) -> str | None:
    """The run's month: its partition key, else the form's ``month``, else the start of its data interval.

    None for a run started by hand without one.
    """
    run = context["dag_run"]
    if run.partition_key:
        return str(run.partition_key)
    if month := (context.get("params") or {}).get("month"):
        return str(month)
    if run.data_interval_start and run.data_interval_start != run.data_interval_end:
        return f"{run.data_interval_start:%Y-%m}"
    return None


def require_month(context: Mapping[str, Any]) -> str:
    """The run's month; ValueError that tells how to name one."""
    month = month_of(context)
    if month is None:
        dag = context["dag_run"].dag_id
        raise ValueError(
            f"This run of {dag} is about no month. Give it one: fill in `month` in the form, or "
            f'airflow dags trigger {dag} -c \'{{"month": "2013-04"}}\'.'
        )
    return month


def run_key(context: Mapping[str, Any]) -> str:
    """``<model>-ingest-2013-04-1a2b3c4d``: the DAG's id, the month, and 8 hex digits of the run id's sha256.

    The same for every try. No colons, which Hadoop's paths reject, and short enough for a label of Kubernetes.
    """
    run = context["dag_run"]
    digest = hashlib.sha256(run.run_id.encode()).hexdigest()[:8]
    return f"{run.dag_id.replace('.', '-')}-{month_of(context) or NO_MONTH}-{digest}"


def who(context: Mapping[str, Any]) -> str:
    """Who asked for this run, for the ledger: DAG, run and, when a person started it, their name."""
    run = context["dag_run"]
    user = getattr(run, "triggering_user_name", None)
    return f"airflow: {run.dag_id} {run.run_id}" + (f" by {user}" if user else "")


def variables(context: Mapping[str, Any]) -> dict[str, str]:
    """What a task's process or pod needs to know of its run besides its command line, as environment variables."""
    return {"AIRLOOP_RUN": run_key(context), "AIRLOOP_WHO": who(context)}
