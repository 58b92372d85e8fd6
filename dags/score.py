"""### A landed month is scored

Every flight of the month gets the probability of being late, as it would have been given three hours before its
departure, by the model that the promotion ledger names for that month; the model before it is scored beside it, to see
later which one was right. Before the first model there is nothing to score with: the month is recorded as warming up.

*Runs* when a month has landed, or when a promotion concerns months that have landed already; by hand with `month`.
Scoring a month again changes no byte. *Then* monitoring starts by itself.
"""

from __future__ import annotations

from airflow.sdk import dag
from airloop import DEFAULT_ARGS, LANDED, RESCORE, SCORED, act, by_month, month_of, month_param


@dag(
    dag_id="score",
    description="Batch predictions of a landed month",
    doc_md=__doc__,
    schedule=by_month(LANDED | RESCORE),
    catchup=False,
    is_paused_upon_creation=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    params={"month": month_param("The landed month to score.")},
    tags=["airloop", "serving"],
)
def score() -> None:
    """One task."""
    act(
        "score",
        engine="spark",
        cpu=2,
        memory="4Gi",
        outlets=[SCORED],
        arguments=lambda context: ["--month", str(month_of(context))],
    )


score()
