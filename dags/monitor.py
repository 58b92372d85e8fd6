"""### Was the model right?

The month's actual delays meet its predictions: **monitor** measures how good they were, looks for drift, writes the
report and decides by the rules in `params.yaml` whether to retrain; the decision is recorded either way. If yes,
**request_retrain** asks for it; if not, that task is skipped, with the reason in its log, and nothing else happens.

*Runs* when a month is scored; by hand with `month`. *Then* training starts, if it was asked for.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowSkipException
from airloop import DEFAULT_ARGS, RETRAIN_REQUESTED, SCORED, act, announce, by_month, month_of, month_param


@dag(
    dag_id="monitor",
    description="Labels meet predictions: measure, report, decide whether to retrain",
    doc_md=__doc__,
    schedule=by_month(SCORED),
    catchup=False,
    is_paused_upon_creation=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    params={"month": month_param("The scored month to look at.")},
    tags=["airloop", "watching"],
)
def monitor() -> None:
    """Measure and decide, then act on it."""

    @task(outlets=[RETRAIN_REQUESTED])
    def request_retrain(decision: dict[str, Any], **context: Any) -> None:
        """Ask for a new model, or be skipped with the reason."""
        if not decision["retrain"]:
            raise AirflowSkipException(decision["reason"])
        announce(context["outlet_events"], RETRAIN_REQUESTED, decision, month_of(context))

    watch = act("monitor", cpu=1, memory="3Gi", arguments=lambda context: ["--month", str(month_of(context))])
    request_retrain(watch.output)


monitor()
