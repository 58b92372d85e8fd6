"""### A new model, if it is good enough

**golden** (the frozen exam) → **train** (all intervals up to the run's; a search for settings
first, where `train.search` has a budget) → **resolve** (which model is to be beaten) →
**evaluate** (measures, decides nothing) → **gate** (decides, measures nothing) → **register**. A model that does not
pass is not registered: that task is skipped with every reason in its log, and the champion stays.

*Runs* when monitoring asks for it (the end of the warm-up asks for the first model); by hand with `interval`, the last interval
to learn from. *Then* deployment starts by itself, if the model was approved.
"""

from __future__ import annotations

from airflow.sdk import Param, chain
from airloop import Assets, Model, by_hand, by_interval, house_dag, interval_param, job, models, stage


def train_dag(model: Model) -> None:
    """Arrows only."""
    assets = Assets(model.name)
    with house_dag(
        model,
        "train",
        __doc__,
        tag="model",
        description="Train, compare with the champion, register what passes the gate",
        schedule=by_interval(assets.retrain_requested),
        max_active_runs=1,
        params={
            "interval": interval_param(model, "Train on everything up to and including this interval."),
            "overrides": Param(
                {},
                type="object",
                propertyNames={"pattern": r"^[a-z_]+(\.[A-Za-z0-9_]+)+$"},
                title="Settings for this run only",
                description='Dotted names of settings below train, or export.quantize: {"train.xgboost.max_depth": 8}. '
                "All others are policy, which a commit changes.",
            ),
            "exploratory": Param(
                False,
                type="boolean",
                title="Exploratory",
                description="Any setting may be changed; nothing is registered.",
            ),
            "reason": by_hand({"maxLength": 500}, title="Reason", description="Why by hand; kept with the run."),
        },
    ):
        chain(
            stage(model, "golden"),
            stage(model, "train"),
            stage(model, "resolve"),
            stage(model, "evaluate"),
            stage(model, "gate"),
            job(model, "register", outlets=[assets.approved]),
        )


for each in models():
    train_dag(each)
