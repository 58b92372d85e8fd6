"""### A new model, if it is good enough

**golden** (the frozen exam) → **train** (all months up to the run's; a search for settings
first, where `train.search` has a budget) → **resolve** (which model is to be beaten) →
**evaluate** (measures, decides nothing) → **gate** (decides, measures nothing) → **register**. A model that does not
pass is not registered: that task is skipped with every reason in its log, and the champion stays.

*Runs* when monitoring asks for it (the end of the warm-up asks for the first model); by hand with `month`, the last month
to learn from. *Then* deployment starts by itself, if the model was approved.
"""

from __future__ import annotations

from airflow.sdk import Param, chain, dag
from airloop import APPROVED, DEFAULT_ARGS, RETRAIN_REQUESTED, act, by_hand, by_month, month_param, stage


@dag(
    dag_id="train",
    description="Train, compare with the champion, register what passes the gate",
    doc_md=__doc__,
    schedule=by_month(RETRAIN_REQUESTED),
    catchup=False,
    is_paused_upon_creation=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    params={
        "month": month_param("Train on everything up to and including this month."),
        "overrides": Param(
            {},
            type="object",
            propertyNames={"pattern": r"^[a-z_]+(\.[A-Za-z0-9_]+)+$"},
            title="Settings for this run only",
            description='Dotted names of params.yaml, for example {"train.xgboost.max_depth": 8}.',
        ),
        "reason": by_hand({"maxLength": 500}, title="Reason", description="Why by hand; kept with the run."),
    },
    tags=["airloop", "model"],
)
def train() -> None:
    """Arrows only."""
    chain(
        stage("golden"),
        stage("train"),
        stage("resolve"),
        stage("evaluate"),
        stage("gate"),
        act("register", outlets=[APPROVED]),
    )


train()
