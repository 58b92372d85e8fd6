"""### An interval of data lands

The feed puts an interval of raw data into the landing zone. This DAG takes it from there:
**ingest** (typed, sorted) → **validate** (bad rows are set aside, each with its reason; nothing is lost) →
**features** (only what was known at each prediction's cutoff; in the same task, as files of their own, the **labels** that became known) → **publish** (training, scoring and the online
service see the interval from now on).

*Runs* at the end of each interval of the model's cadence; for one by hand with the form's `interval`, and for all from there
to `through` in one run: `airflow dags trigger <model>.ingest -c '{"interval": "2013-01", "through": "2013-06"}'`. One that is refused
fails that run after those before it have landed, and none of them. For a run each:
`airflow backfill create --dag-id <model>.ingest --from-date 2013-01-01 --to-date 2013-06-01 --reprocess-behavior completed`.
A date without an hour is UTC: where the intervals of the model begin in another zone, name the moment, as `--from-date 2013-01-01T00:00+01:00`.
An interval looks back on the one before and waits until that has landed. Doing one again changes nothing; when it lands with
other data, **resume** takes up the one after it again, which looked back on the old ones.
*Then* scoring starts by itself.
"""

from __future__ import annotations

from airflow.sdk import chain
from airloop import (
    ORDERED_ARGS,
    Assets,
    Model,
    ResumeOperator,
    broken_dag,
    broken_models,
    calendar,
    house_dag,
    interval_param,
    job,
    models,
    stage,
)


def ingest_dag(model: Model) -> None:
    """Arrows only."""
    with house_dag(
        model,
        "ingest",
        __doc__,
        tag="data",
        description="An interval of data lands: ingest, validate, features, publish",
        max_active_runs=16,  # they run one after the other: each waits for the interval before, without a worker
        args=ORDERED_ARGS,
        params={
            "interval": interval_param(
                model, "The interval to take in. Empty in a scheduled run or a backfill: those know theirs."
            ),
            "through": interval_param(
                model,
                "The last of several, which one run takes in from the first on. Empty: that one interval.",
                title="Through",
            ),
        },
        **calendar(model),
    ):
        # An interval looks back on the one before and waits until that has landed; see plugins/airloop/waiting.py.
        chain(
            stage(model, "manifest", "ingest", resumable=True),
            stage(model, "validate"),
            stage(model, "labels", "features"),
            job(model, "publish", outlets=[Assets(model.name).landed]),
            ResumeOperator(task_id="resume", model=model.name, published="publish"),
        )


for each in models():
    ingest_dag(each)
for broken in broken_models():  # in one file only: an id belongs to one file
    broken_dag(broken)
