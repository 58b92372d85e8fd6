"""### A landed interval is scored

Every entity of the interval gets the prediction that it would have been given at its cutoff, by the model that the
promotion ledger names for that interval; the model before it is scored beside it, to see later which one was right.
Before the first model there is nothing to score with: the interval is recorded as warming up.

*Runs* when an interval has landed, or when a promotion concerns intervals that have landed already; by hand with `interval`:
`airflow dags trigger <model>.score -c '{"interval": "2013-04"}'`. Scoring again changes no byte. *Then* monitoring starts by itself.
"""

from __future__ import annotations

from airloop import Assets, Model, by_interval, house_dag, interval_param, job, models


def score_dag(model: Model) -> None:
    """One task."""
    assets = Assets(model.name)
    with house_dag(
        model,
        "score",
        __doc__,
        tag="serving",
        description="Batch predictions of a landed interval",
        schedule=by_interval(assets.landed | assets.rescore),
        max_active_runs=1,
        params={"interval": interval_param(model, "The landed interval to score.")},
    ):
        job(model, "score", outlets=[assets.scored])


for each in models():
    score_dag(each)
