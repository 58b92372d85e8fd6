"""### A model goes live, or comes back

**deploy** writes one entry into the promotion ledger, then makes the model registry and the online service agree with it
and tries the service with known answers; if those are wrong, a second entry puts the old model back and the task fails.
**rescore** asks for new predictions of landed months that the change concerns; usually there are none.

*Runs* when a model was approved. *By hand*: with `version`, to roll back to any registered model; with nothing, to heal:
registry and service are made to agree with the ledger again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow.sdk import dag
from airloop import APPROVED, DEFAULT_ARGS, LIVE, RESCORE, act, by_hand, by_month, month_of


def what(context: Mapping[str, Any]) -> list[str]:
    """Arguments of tasks/deploy.py: a rollback, a promotion, or only the healing."""
    version, reason = context["params"]["version"], context["params"]["reason"]
    if version is not None:
        return ["--rollback", str(version), *(["--why", reason] if reason else [])]
    month = month_of(context)
    return ["--month", month] if month else ["--reconcile"]


@dag(
    dag_id="deploy",
    description="Promote an approved model, or roll back to any version",
    doc_md=__doc__,
    schedule=by_month(APPROVED),
    catchup=False,
    is_paused_upon_creation=False,
    max_active_runs=1,  # the ledger is written by one run at a time
    default_args=DEFAULT_ARGS,
    params={
        "version": by_hand({"type": "integer", "minimum": 1}, title="Roll back to", description="A model version."),
        "reason": by_hand({"maxLength": 500}, title="Reason", description="Kept in the ledger."),
    },
    tags=["airloop", "model"],
)
def deploy() -> None:
    """Decide, then let what was decided reach the past."""
    live = act("deploy", workspace=False, outlets=[LIVE], arguments=what)
    live >> act("rescore", workspace=False, outlets=[RESCORE])


deploy()
