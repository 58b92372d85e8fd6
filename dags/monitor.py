"""### Was the model right?

The interval's labels meet its predictions: **monitor** measures how good they were, looks for drift, writes the
report and decides by the section `monitor` of the model's `params.yaml` whether to retrain; the decision is recorded either way. If yes,
**request_retrain** asks for it; if not, that task is skipped, with the reason in its log, and nothing else happens.

*Runs* when an interval is scored; by hand with `interval`. *Then* training starts, if it was asked for.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import task
from airflow.sdk.exceptions import AirflowSkipException
from airloop import Assets, Model, announce, by_interval, house_dag, interval_of, interval_param, job, models


def monitor_dag(model: Model) -> None:
    """Measure and decide, then act on it."""
    assets = Assets(model.name)

    @task(outlets=[assets.retrain_requested])
    def request_retrain(decision: dict[str, Any], **context: Any) -> None:
        """Ask for a new model, or be skipped with the reason."""
        if not decision["retrain"]:
            raise AirflowSkipException(decision["reason"])
        announce(context["outlet_events"], assets.retrain_requested, decision, interval_of(context))

    with house_dag(
        model,
        "monitor",
        __doc__,
        tag="watching",
        description="Labels meet predictions: measure, report, decide whether to retrain",
        schedule=by_interval(assets.scored),
        max_active_runs=1,
        params={"interval": interval_param(model, "The scored interval to look at.")},
    ):
        request_retrain(job(model, "monitor").output)


for each in models():
    monitor_dag(each)
