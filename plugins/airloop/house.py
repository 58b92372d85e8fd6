"""House defaults: what every DAG and task has, and the forms for runs started by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from types import MappingProxyType
from typing import Any

from airflow.sdk import DAG, Param

from airloop.model import BrokenModel, Model
from airloop.notify import report_failure
from airloop.waiting import note_failed

DEFAULT_ARGS: dict[str, Any] = {
    # For what heals by itself: a killed worker, a service that restarts. A refusal is never retried (see process.py).
    "retries": 2,
    "retry_delay": timedelta(seconds=10),
    "retry_exponential_backoff": 2,
    "max_retry_delay": timedelta(minutes=2),
    "execution_timeout": timedelta(minutes=15),
    "on_failure_callback": report_failure,
}
"""Of each task, with the model's owner; a stage takes its timeout from its ``meta`` in dvc.yaml."""

ORDERED_ARGS: dict[str, Any] = {**DEFAULT_ARGS, "on_failure_callback": [report_failure, note_failed]}
"""The same for a DAG whose runs wait for one another: a run that fails lets the waiting ones end (airloop.waiting)."""


NO_PARAMS: Mapping[str, Param] = MappingProxyType({})


@contextmanager
def house_dag(
    model: Model,
    name: str,
    doc: str | None,
    *,
    tag: str,
    args: Mapping[str, Any] = DEFAULT_ARGS,
    params: Mapping[str, Param] = NO_PARAMS,
    **settings: Any,
) -> Iterator[DAG]:
    """Make the DAG ``name`` of ``model``, with what all DAGs have, for the tasks that are made in its block.

    Args:
        model: whose DAG it is.
        name: as its file is called.
        doc: its page in the web UI, in which ``<model>`` is the model's name.
        tag: by which it is found, besides the model's name.
        args: of its tasks.
        params: the form's fields.
        settings: further arguments of the DAG.
    """
    with DAG(
        dag_id=model.dag_id(name),
        doc_md=(doc or "").replace("<model>", model.name),
        tags=["airloop", model.name, tag],
        default_args={**args, "owner": model.owner},
        catchup=False,
        is_paused_upon_creation=False,
        **settings,
    ) as dag:
        yield dag
    # Last, since each task would copy them, and the DAG check them again for each model: half of what a model costs at parsing.
    # A run's params are the DAG's and the task's together, wherever they come from.
    dag.params.update(params)


def broken_dag(broken: BrokenModel) -> DAG:
    """Make the DAG that has no task and says why the model in this folder has no DAGs."""
    with DAG(
        dag_id=broken.dag_id,
        description=broken.problem,
        doc_md=f"### The model in models/{broken.folder} has no DAGs\n\n{broken.problem}\n\nAll other models are as they were.",
        tags=["airloop", "broken"],
        schedule=None,
        catchup=False,
        is_paused_upon_creation=True,
    ) as dag:
        return dag


def interval_param(model: Model, description: str, title: str = "Interval") -> Param:
    """The form's field for an interval; empty means: the interval that the run is about anyway."""
    cadence = model.cadence
    title = f"{title} (such as {cadence.example})"
    return Param(
        None, type=["null", "string"], pattern=f"^{cadence.pattern.pattern}$", title=title, description=description
    )


def by_hand(schema: dict[str, Any], *, title: str, description: str) -> Param:
    """An optional field of the form, empty by default; ``schema`` is JSON schema."""
    types = schema.get("type", "string")
    allowed = ["null", *([types] if isinstance(types, str) else types)]
    return Param(None, title=title, description=description, **{**schema, "type": allowed})
