"""What Airflow's database knows of the pipeline: how long runs and tasks took and waited, and how its parts are."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from airflow.models import DagRun, TaskInstance
from airflow.models.dag import DagModel
from airflow.models.errors import ParseImportError
from airflow.models.pool import Pool

from airloop.metrics_of_store import Sink

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

ENDED = ("success", "failed")
WAITING = ("scheduled", "queued")
TAGGED = "airloop"
"""Tag of our DAGs; other DAGs on the same Airflow are not ours to report."""


def collect(session: Session, gauges: Sink) -> None:
    """Runs by state, the newest ended run of each DAG with its tasks, and what waits, as gauges."""
    dags = list(session.scalars(sa.select(DagModel.dag_id).where(DagModel.tags.any(name=TAGGED))))
    counted = sa.select(DagRun.dag_id, DagRun.state, sa.func.count()).where(DagRun.dag_id.in_(dags))
    for dag, state, count in session.execute(counted.group_by(DagRun.dag_id, DagRun.state)):
        gauges.add("airloop_dag_runs", "Runs by state.", count, model=_model(dag), dag_id=dag, state=str(state))
    for run in _newest(session, dags, ENDED):
        _run(session, run, gauges)
    for run in _newest(session, dags, ("success",)):
        gauges.add("airloop_dag_last_success_timestamp_seconds", "End of the newest run that succeeded.", _epoch(run.end_date), model=_model(run.dag_id), dag_id=run.dag_id)  # fmt: skip
    _waiting(session, dags, gauges)
    errors = session.scalar(sa.select(sa.func.count()).select_from(ParseImportError))
    gauges.add("airloop_dag_import_errors", "DAG files that cannot be loaded.", errors)
    for pool, numbers in Pool.slots_stats(session=session).items():
        gauges.add("airloop_pool_open_slots", "Slots of a pool that are free.", numbers["open"], pool=pool)


def _newest(session: Session, dags: list[str], states: tuple[str, ...]) -> Iterator[DagRun]:
    ids = sa.select(sa.func.max(DagRun.id)).where(DagRun.dag_id.in_(dags), DagRun.state.in_(states))
    return iter(session.scalars(sa.select(DagRun).where(DagRun.id.in_(ids.group_by(DagRun.dag_id)))).all())


def _run(session: Session, run: DagRun, gauges: Sink) -> None:
    dag, model = run.dag_id, _model(run.dag_id)
    gauges.add(
        "airloop_dag_last_failed",
        "Whether the newest ended run failed.",
        run.state == "failed",
        model=model,
        dag_id=dag,
    )
    gauges.add("airloop_dag_last_run_seconds", "How long the newest ended run took.", _between(run.start_date, run.end_date), model=model, dag_id=dag)  # fmt: skip
    gauges.add("airloop_dag_last_queued_seconds", "How long it waited to start.", _between(run.queued_at, run.start_date), model=model, dag_id=dag)  # fmt: skip
    tasks = sa.select(TaskInstance).where(TaskInstance.dag_id == dag, TaskInstance.run_id == run.run_id)
    for task in session.scalars(tasks):
        labels = {"model": model, "dag_id": dag, "task_id": task.task_id}
        gauges.add("airloop_task_last_run_seconds", "How long a task of that run took.", _between(task.start_date, task.end_date), **labels)  # fmt: skip
        gauges.add("airloop_task_last_queued_seconds", "How long it waited for a slot and a worker.", _between(task.scheduled_dttm, task.start_date), **labels)  # fmt: skip
        gauges.add("airloop_task_last_tries", "How often it was tried.", task.try_number, **labels)


def _waiting(session: Session, dags: list[str], gauges: Sink) -> None:
    asked = sa.select(TaskInstance.dag_id, sa.func.count(), sa.func.min(TaskInstance.scheduled_dttm)).where(
        TaskInstance.dag_id.in_(dags), TaskInstance.state.in_(WAITING)
    )
    found = session.execute(asked.group_by(TaskInstance.dag_id)).all()
    for model in sorted({_model(dag) for dag in dags}):
        mine = [(count, since) for dag, count, since in found if _model(dag) == model]
        longest = max((_between(since, datetime.now(UTC)) or 0 for _, since in mine), default=0)
        gauges.add("airloop_tasks_waiting", "Tasks that could run and do not yet.", sum(count for count, _ in mine), model=model)  # fmt: skip
        gauges.add("airloop_tasks_waiting_seconds", "How long the oldest of them has waited.", longest, model=model)


def _model(dag_id: str) -> str:
    return dag_id.partition(".")[0]


def _between(begin: Any, end: Any) -> float | None:
    return max(0.0, _epoch(end) - _epoch(begin)) if begin and end else None


def _epoch(at: Any) -> float:
    """Seconds since the epoch; a database without time zones means UTC."""
    return float((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp())
