"""How a task waits for an interval to land: in the triggerer, which costs a look at the store and no worker, and not for ever.

Waiting runs must never fill all places of a DAG while the run that they wait for is queued behind them (apache/airflow#29524). So a
run gives up when its time is over, or at once when the interval that it waits for is stalled: its own run failed, or gave up
too. A stalled interval has a note in the store; the run that lands the interval before it starts it again (`ResumeOperator`), with
all of the span that it was part of.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, DagRunTriggerException

from airloop.keys import intervals_of, model_of, run_key
from airloop.settings import PlaceSettings, load
from airloop.stores import store_of

GRACE = timedelta(minutes=5)
"""How long the triggerer may be away, besides."""
REFUSED, SKIPPED = "refused", "skipped"
"""Under which a task that worked on a span reports why intervals of it were refused, and which had nothing to do."""


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
    interval, (own, *later) = str(event["interval"]), intervals_of(context)
    why = f"{interval} has not landed: {event['reason']}."
    if not task.resumable:
        raise AirflowFailException(f"{why} Land it, then clear this task.")
    note_stalled(context, [own, *later], waits_for=interval)
    if has_landed(task.model, interval):  # whoever landed it may have looked for the note before it was there
        return
    again = f"{own} to {later[-1]} are" if later else f"{own} is"
    raise AirflowSkipException(f"{why} This run ends; when {interval} lands, {again} started again by itself.")


def note_stalled(context: Any, intervals: Sequence[str], *, waits_for: str | None = None) -> None:
    """Note that intervals of the run do not land for now, so that those that wait for one of them give up.

    Args:
        context: a task's.
        intervals: which, in order: to the end of the run's span.
        waits_for: what the first of them waits for; when that lands, a run is started for all of them.
    """
    for interval in intervals:
        note = {"interval": interval, "waits_for": None, "run": run_key(context)}
        if interval == intervals[0]:
            note |= {"waits_for": waits_for, "through": intervals[-1]}
        store_of(model_of(context)).write_json(_note(interval), note)


def note_failed(context: Any) -> None:
    """Note that the run has failed, unless it gave up before and says what it waits for; a callback of its tasks."""
    model = model_of(context)
    for interval in intervals_of(context):
        if not (has_landed(model, interval) or is_stalled(model, interval)):
            note_stalled(context, [interval])


def clear_notes(context: Any) -> None:
    """Forget that intervals of the run were stalled: it is at work."""
    for interval in intervals_of(context):
        store_of(model_of(context)).delete(_note(interval))


def _note(interval: str) -> str:
    return f"stalled/{interval}.json"


class ResumeOperator(BaseOperator):
    """Starts this DAG again for what the intervals that have just landed concern: what is stale by them, or waits for them.

    Each run looks at its own intervals and at the next, so they follow one another to the last that is concerned. Where a span did
    not land to its end, the run fails here, after what did land was announced.

    Args:
        model: whose intervals they are.
        published: id of the task that landed them; its report lists under ``again`` what is stale.
    """

    def __init__(self, *, model: str, published: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.published = published

    def execute(self, context: Any) -> Any:
        """Trigger, or be skipped.

        Raises:
            AirflowFailException: an interval of the run's span has not landed.
        """
        kept, span = store_of(self.model), intervals_of(context)
        landing = context["ti"].xcom_pull(task_ids=self.published) or {}
        landed = landing.get("intervals") or span[:1]
        if missing := [each for each in span if each not in {*landed, *landing.get(SKIPPED, [])}]:
            raise self._incomplete(context, missing)
        notes = [kept.read_json(name) for name in kept.names("stalled")]
        waiting = [note for note in notes if note["waits_for"] in landed]
        stale = [{"interval": each} for each in landing.get("again", [])]
        concerned = [note for note in [*waiting, *stale] if note["interval"] not in landed[:-1]]
        concerned.sort(key=lambda note: note["interval"])
        if not concerned:
            raise AirflowSkipException(f"no interval waits for {landed[-1]} or is stale by it")
        first, through = concerned[0]["interval"], concerned[0].get("through")
        self.log.info("%s is taken up again, since %s has landed", first, landed[-1])
        # What TriggerDagRunOperator raises, which takes a second to import. Without a logical date: the DAG's calendar may have
        # ended before today, and a task whose date is past its end is never scheduled.
        raise DagRunTriggerException(
            trigger_dag_id=context["dag_run"].dag_id,
            dag_run_id=f"resumed__{first}__{uuid.uuid4().hex[:8]}",
            conf={"interval": first, **({"through": through} if through not in {None, first} else {})},
            logical_date=None,
            reset_dag_run=False,
            skip_when_already_exists=False,
            wait_for_completion=False,
            allowed_states=[],
            failed_states=[],
            poke_interval=60,
            deferrable=False,
        )

    def _incomplete(self, context: Any, missing: list[str]) -> AirflowFailException:
        """Note what the rest of the span waits for; returns the failure that says why, and how to go on."""
        first, *later = missing
        if later:
            note_stalled(context, later, waits_for=first)
        earlier = context["ti"].xcom_pull(task_ids=sorted(self.get_flat_relative_ids(upstream=True)))
        reasons = {key: why for each in earlier or [] if each for key, why in each.get(REFUSED, {}).items()}
        why = "\n".join(f"{key}: {reasons[key]}" for key in missing if key in reasons) or "The tasks' logs say why."
        follow = f"; {later[0]} to {later[-1]} follow by themselves" if len(later) > 1 else ""
        follow = follow or (f"; {later[0]} follows by itself" if later else "")
        return AirflowFailException(
            f"{first} has not landed, nor has what comes after it in this span.\n{why}\n"
            f"When that is mended: airflow dags trigger {context['dag_run'].dag_id} -c '{json.dumps({'interval': first})}'{follow}."
        )
