"""### A month of data lands

The feed puts a month of flights and weather into the landing zone. This DAG takes it from there:
**ingest** (typed, sorted) → **validate** (bad rows are set aside, each with its reason; nothing is lost) →
**features** (only what was known three hours before each flight) → **publish** (training, scoring and the online
service see the month from now on).

*Runs* monthly; for one month by hand with the form's `month`; for many with
`airflow backfill create --dag-id ingest --from-date 2013-01-01 --to-date 2013-06-01`.
A month looks back on the one before, so a backfill goes month by month. Doing a month again changes nothing.
*Then* scoring starts by itself.
"""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.sdk import CronDataIntervalTimetable, chain, dag
from airloop import DEFAULT_ARGS, LANDED, act, month_of, month_param, stage


@dag(
    dag_id="ingest",
    description="A month of data lands: ingest, validate, features, publish",
    doc_md=__doc__,
    schedule=CronDataIntervalTimetable("0 0 1 * *", timezone="UTC"),
    start_date=datetime(2013, 1, 1, tzinfo=UTC),
    end_date=datetime(
        2013, 12, 31, tzinfo=UTC
    ),  # the example's year; without it, switching on runs last month of today
    catchup=False,
    is_paused_upon_creation=False,
    max_active_runs=3,
    default_args=DEFAULT_ARGS,
    params={"month": month_param("The month to take in. Empty in a scheduled run or a backfill: those know theirs.")},
    tags=["airloop", "data"],
)
def ingest() -> None:
    """Arrows only."""
    # One month after the other where months queue up: the next one's features look back on this one. `depends_on_past`
    # waits for the same task of the month before, `wait_for_downstream` for what hangs directly on it: hence the arrow.
    first = stage("manifest", "ingest", depends_on_past=True, wait_for_downstream=True)
    publish = act("publish", outlets=[LANDED], arguments=lambda context: ["--month", str(month_of(context))])
    chain(first, stage("validate"), stage("features"), publish)
    first >> publish


ingest()
