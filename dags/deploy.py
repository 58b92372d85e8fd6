"""### A model goes live, or comes back

**deploy** writes one entry into the promotion ledger, then makes the model registry and the online service agree with it
and tries the service with known answers; if those are wrong, a second entry puts the old model back and the task fails.
**rescore** asks for new predictions of landed intervals that the change concerns; usually there are none.

*Runs* when a model was approved. *By hand*: with `version`, to roll back to a version that was live before; with nothing
(`airflow dags trigger <model>.deploy`), to heal: registry and service are made to agree with the ledger again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airloop import Assets, Model, by_hand, by_interval, house_dag, interval_of, job, models


def what(context: Mapping[str, Any]) -> list[str]:
    """Arguments of tasks/deploy.py: a rollback, a promotion, or only the healing."""
    version, reason = context["params"]["version"], context["params"]["reason"]
    if version is not None:
        return ["--rollback", str(version), *([f"--why={reason}"] if reason else [])]
    interval = interval_of(context)
    return ["--interval", interval] if interval else ["--reconcile"]


def deploy_dag(model: Model) -> None:
    """Decide, then let what was decided reach the past."""
    assets = Assets(model.name)
    with house_dag(
        model,
        "deploy",
        __doc__,
        tag="model",
        description="Promote an approved model, or roll back to a version that was live",
        schedule=by_interval(assets.approved),
        max_active_runs=4,  # a rollback passes a deploy that waits; the ledger takes one decision at a time, and the other stops
        params={
            "version": by_hand({"type": "integer", "minimum": 1}, title="Roll back to", description="A model version."),
            "reason": by_hand({"maxLength": 500}, title="Reason", description="Kept in the ledger."),
        },
    ):
        live = job(model, "deploy", outlets=[assets.live], arguments=what)
        live >> job(model, "rescore", outlets=[assets.rescore])


for each in models():
    deploy_dag(each)
