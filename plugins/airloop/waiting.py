"""How a task waits for an interval to land: in the triggerer, which costs a look at the store and no worker, and not for ever.

Waiting runs must never fill all places of a DAG while the run that they wait for is queued behind them (apache/airflow#29524). So a
run gives up when its time is over, or at once when the interval that it waits for is stalled: its own run failed, or gave up
too. A stalled interval has a note in the store; the run that lands the interval before it starts it again (`ResumeOperator`).
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, DagRunTriggerException

from airloop.keys import interval_of, model_of, run_key
from airloop.settings import PlaceSettings, load
from airloop.stores import store_of

GRACE = timedelta(minutes=5)
"""How long the triggerer may be away, besides."""


def has_landed(model: str, interval: str) -> bool:
    """Whether there is a record of ``interval`` in the store."""
    from tasks.landing.landed import name

    return store_of(model).exists(name(interval))


def is_stalled(model: str, interval: str) -> bool:
    """Whether the run of ``interval`` failed, or gave up."""
    return store_of(model).exists(_note(interval))


def wait(task: Any, error: Any) -> None:
    """Defer ``task`` until what it waits for has landed; returns when the error names nothing of the kind."""
    interval = error.payload.get("waits_for")
    if interval is None:
        return
    from airloop.landed_trigger import LandedTrigger

    minutes = load(PlaceSettings).wait_minutes
    task.log.info("%s Waiting for it, for up to %g minutes.", error, minutes)
    task.defer(
        trigger=LandedTrigger(task.model, interval, time.time() + minutes * 60),
        method_name="after_waiting",
        timeout=timedelta(minutes=minutes) + GRACE,
    )


def give_up(task: Any, context: Any, event: Mapping[str, Any]) -> None:
    """End the run that has waited for long enough: skipped where it is started again by itself, else failed.

    Args:
        task: the operator that waited.
        context: its context.
        event: what the trigger said: the interval, and why.

    Raises:
        AirflowSkipException: it is started again when the interval lands.
        AirflowFailException: it is not.
    """
    interval, own = str(event["interval"]), str(interval_of(context))
    why = f"{interval} has not landed: {event['reason']}."
    if not task.resumable:
        raise AirflowFailException(f"{why} Land it, then clear this task.")
    note_stalled(context, waits_for=interval)
    if has_landed(task.model, interval):  # whoever landed it may have looked for the note before it was there
        return
    raise AirflowSkipException(f"{why} This run ends; when {interval} lands, {own} is started again by itself.")


def note_stalled(context: Any, *, waits_for: str | None = None) -> None:
    """Note that the run's interval does not land for now, so that those that wait for it give up."""
    if interval := interval_of(context):
        note = {"interval": interval, "waits_for": waits_for, "run": run_key(context)}
        store_of(model_of(context)).write_json(_note(interval), note)


def note_failed(context: Any) -> None:
    """Note that the run has failed, unless it gave up before and says what it waits for; a callback of its tasks."""
    if (interval := interval_of(context)) and not is_stalled(model_of(context), interval):
        note_stalled(context)


def clear_note(context: Any) -> None:
    """Forget that the run's interval was stalled: it is at work."""
    if interval := interval_of(context):
        store_of(model_of(context)).delete(_note(interval))


def _note(interval: str) -> str:
    return f"stalled/{interval}.json"


class ResumeOperator(BaseOperator):
    """Starts this DAG again for what the interval that has just landed concerns: what is stale by it, or waits for it.

    Each run looks at its own interval and at the next, so they follow one another to the last that is concerned.

    Args:
        model: whose interval it is.
        published: id of the task that landed the interval; its report lists under ``again`` what is stale.
    """

    def __init__(self, *, model: str, published: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.published = published

    def execute(self, context: Any) -> Any:
        """Trigger, or be skipped."""
        kept, interval = store_of(self.model), str(interval_of(context))
        notes = [kept.read_json(name) for name in kept.names("stalled")]
        stale = (context["ti"].xcom_pull(task_ids=self.published) or {}).get("again", [])
        concerned = [*stale, *(note["interval"] for note in notes if note["waits_for"] == interval)]
        if not concerned:
            raise AirflowSkipException(f"no interval waits for {interval} or is stale by it")
        self.log.info("%s is taken up again, since %s has landed", concerned[0], interval)
        # What TriggerDagRunOperator raises, which takes a second to import. Without a logical date: the DAG's calendar may have
        # ended before today, and a task whose date is past its end is never scheduled.
        raise DagRunTriggerException(
            trigger_dag_id=context["dag_run"].dag_id,
            dag_run_id=f"resumed__{concerned[0]}__{uuid.uuid4().hex[:8]}",
            conf={"interval": concerned[0]},
            logical_date=None,
            reset_dag_run=False,
            skip_when_already_exists=False,
            wait_for_completion=False,
            allowed_states=[],
            failed_states=[],
            poke_interval=60,
            deferrable=False,
        )
