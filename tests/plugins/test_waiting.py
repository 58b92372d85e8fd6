"""How runs wait for an interval to land: not for ever, and not while its own run has ended."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, DagRunTriggerException, TaskDeferred
from airloop import landed_trigger
from airloop import waiting as waiting_module
from airloop.landed_trigger import LandedTrigger
from airloop.process import WaitError
from airloop.running import ProcessOperator
from airloop.stage import stage
from airloop.waiting import ResumeOperator, note_failed

from tasks.core.results import Result, Status
from tasks.core.urls import url_of
from tasks.settings.environment import environment
from tasks.storage.artefacts import Store
from tests.plugins.conftest import FLIGHTS

WAITS = WaitError(Result(Status.WAITING, "2013-03 has not landed yet.", {"waits_for": "2013-03"}))


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The store, with nothing in it."""
    monkeypatch.setenv("AIRLOOP_STORE", url_of(tmp_path / "store"))
    monkeypatch.setattr(landed_trigger, "POLL_SECONDS", 0.05)
    environment.cache_clear()
    yield Store(url_of(tmp_path / "store")).part("flights")
    environment.cache_clear()


def land(store: Store, interval: str) -> None:
    store.write_json(f"landed/{interval}.json", {})


def first_event(trigger: LandedTrigger) -> dict[str, Any]:
    async def first() -> dict[str, Any]:
        async for event in trigger.run():
            return dict(event.payload)
        raise AssertionError("it ended without an event")

    return asyncio.run(asyncio.wait_for(first(), 60))


def waiting(monkeypatch: pytest.MonkeyPatch, *, resumable: bool) -> ProcessOperator:
    """The first task of a DAG, whose command finds that March has not landed."""
    task = stage(FLIGHTS, "manifest", "ingest", resumable=resumable)
    assert isinstance(task, ProcessOperator)

    def perform(_: Any) -> dict[str, Any]:
        raise WAITS

    monkeypatch.setattr(task, "perform", perform)
    return task


def test_it_waits_in_the_triggerer_and_not_longer_than_it_is_allowed(context, monkeypatch) -> None:
    monkeypatch.setenv("AIRLOOP_WAIT_MINUTES", "7")
    before = time.time()
    with pytest.raises(TaskDeferred) as caught:
        waiting(monkeypatch, resumable=True).execute(context("flights.ingest"))
    trigger = caught.value.trigger
    assert isinstance(trigger, LandedTrigger) and trigger.interval == "2013-03"
    assert before + 420 <= trigger.until <= time.time() + 420
    name, arguments = trigger.serialize()
    assert name == f"{LandedTrigger.__module__}.LandedTrigger"
    assert LandedTrigger(**arguments).until == trigger.until
    assert caught.value.timeout is not None and caught.value.timeout.total_seconds() > 420


def test_what_waits_for_nothing_that_lands_is_tried_again(context, monkeypatch) -> None:
    task = waiting(monkeypatch, resumable=True)
    away = WaitError(Result(Status.WAITING, "the registry does not answer"))

    def perform(_: Any) -> dict[str, Any]:
        raise away

    monkeypatch.setattr(task, "perform", perform)
    with pytest.raises(WaitError, match="the registry does not answer"):
        task.execute(context("flights.ingest"))


def test_the_trigger_fires_when_the_interval_has_landed(store) -> None:
    land(store, "2013-03")
    assert first_event(LandedTrigger("flights", "2013-03", time.time() + 600)) == {
        "interval": "2013-03", "landed": True, "reason": "",
    }  # fmt: skip


def test_the_trigger_fires_at_its_time(store) -> None:
    event = first_event(LandedTrigger("flights", "2013-03", time.time() - 1))
    assert not event["landed"] and "AIRLOOP_WAIT_MINUTES" in event["reason"]


def test_the_trigger_fires_when_the_run_that_it_waits_for_has_failed(context, store) -> None:
    note_failed(context("flights.ingest", partition_key="2013-03"))
    event = first_event(LandedTrigger("flights", "2013-03", time.time() + 600))
    assert not event["landed"] and "its own run failed" in event["reason"]


def test_when_the_interval_has_landed_the_task_goes_on(context, monkeypatch) -> None:
    task = waiting(monkeypatch, resumable=True)
    monkeypatch.setattr(task, "perform", lambda _: {"interval": "2013-04"})
    assert task.after_waiting(context("flights.ingest"), {"interval": "2013-03", "landed": True, "reason": ""})


def give_up(task: ProcessOperator, context: dict[str, Any]) -> None:
    task.after_waiting(context, {"interval": "2013-03", "landed": False, "reason": "the time is over"})


def test_a_run_that_is_started_again_by_itself_is_skipped_when_it_gives_up(context, monkeypatch, store) -> None:
    with pytest.raises(
        AirflowSkipException, match=r"2013-03 has not landed: the time is over\. .*started again by itself"
    ):
        give_up(waiting(monkeypatch, resumable=True), context("flights.ingest"))
    (note,) = [store.read_json(name) for name in store.names("stalled")]
    assert (note["interval"], note["waits_for"]) == ("2013-04", "2013-03")


def test_any_other_run_fails_and_says_what_to_do(context, monkeypatch, store) -> None:
    with pytest.raises(AirflowFailException, match="Land it, then clear this task"):
        give_up(waiting(monkeypatch, resumable=False), context("flights.train"))
    assert store.names("stalled") == []


def test_an_interval_that_lands_while_a_run_gives_up_is_not_missed(context, monkeypatch, store) -> None:
    """Whoever landed it has looked for the note before it was there."""
    land(store, "2013-03")
    with pytest.raises(TaskDeferred):  # it goes on, and its command waits again
        give_up(waiting(monkeypatch, resumable=True), context("flights.ingest"))


def test_a_run_that_gave_up_lets_those_that_wait_for_it_give_up(context, monkeypatch, store) -> None:
    with pytest.raises(AirflowSkipException):
        give_up(waiting(monkeypatch, resumable=True), context("flights.ingest"))
    assert not first_event(LandedTrigger("flights", "2013-04", time.time() + 600))["landed"]


def test_a_run_that_is_at_work_again_is_waited_for(context, monkeypatch, store) -> None:
    note_failed(context("flights.ingest"))
    task = waiting(monkeypatch, resumable=True)
    monkeypatch.setattr(task, "perform", lambda _: {"interval": "2013-04"})
    task.execute(context("flights.ingest"))
    assert store.names("stalled") == []


def resume(context: dict[str, Any], *, again: list[str] | None = None) -> str:
    """The interval that is started again."""
    report = {"interval": "2013-03", "again": again or []}
    context["ti"] = SimpleNamespace(xcom_pull=lambda task_ids: report if task_ids == "publish" else None)
    with pytest.raises(DagRunTriggerException) as caught:
        ResumeOperator(model="flights", task_id="resume", published="publish").execute(context)
    assert caught.value.trigger_dag_id == "flights.ingest"
    return str((caught.value.conf or {})["interval"])


def test_the_run_that_landed_starts_the_one_that_waited_for_it(context, monkeypatch, store) -> None:
    with pytest.raises(AirflowSkipException):
        give_up(waiting(monkeypatch, resumable=True), context("flights.ingest"))
    assert resume(context("flights.ingest", partition_key="2013-03")) == "2013-04"


def test_a_late_report_of_a_failure_does_not_forget_what_the_run_waits_for(context, monkeypatch, store) -> None:
    """A supervisor that lost its heartbeat reports a failure although the task gave up in order."""
    with pytest.raises(AirflowSkipException):
        give_up(waiting(monkeypatch, resumable=True), context("flights.ingest"))
    note_failed(context("flights.ingest"))
    assert resume(context("flights.ingest", partition_key="2013-03")) == "2013-04"


def test_what_is_stale_is_started_again_too(context) -> None:
    assert resume(context("flights.ingest", partition_key="2013-03"), again=["2013-04"]) == "2013-04"


def test_a_run_whose_failure_nobody_waits_for_is_not_started_again(context, store) -> None:
    note_failed(context("flights.ingest", partition_key="2013-04"))
    given = context("flights.ingest", partition_key="2013-03")
    given["ti"] = SimpleNamespace(xcom_pull=lambda task_ids: {"interval": "2013-03"})
    with pytest.raises(AirflowSkipException, match="no interval waits for 2013-03"):
        ResumeOperator(model="flights", task_id="resume", published="publish").execute(given)


SPAN = {"interval": "2013-04", "through": "2013-06"}


def test_a_span_that_gave_up_is_started_again_as_a_whole(context, monkeypatch, store) -> None:
    with pytest.raises(AirflowSkipException, match=r"when 2013-03 lands, 2013-04 to 2013-06 are started again"):
        give_up(waiting(monkeypatch, resumable=True), context("flights.ingest", partition_key=None, params=SPAN))
    assert not first_event(LandedTrigger("flights", "2013-06", time.time() + 600))["landed"], "nobody waits for its end"
    with pytest.raises(DagRunTriggerException) as caught:
        after({"interval": "2013-03"}, context("flights.ingest", partition_key="2013-03"))
    assert caught.value.conf == SPAN


def after(landing: dict[str, Any], context: dict[str, Any], **earlier: Any) -> None:
    """What the last task of a run does, by what those before it reported."""
    reports = {"publish": landing, **earlier}

    def pulled(task_ids: str | list[str]) -> Any:
        return reports.get(task_ids) if isinstance(task_ids, str) else [*reports.values()]

    context["ti"] = SimpleNamespace(xcom_pull=pulled)
    ResumeOperator(model="flights", task_id="resume", published="publish").execute(context)


def test_after_a_span_the_run_that_waits_for_its_last_interval_is_started(context, monkeypatch, store) -> None:
    late = WaitError(Result(Status.WAITING, "2013-06 has not landed yet.", {"waits_for": "2013-06"}))
    task = waiting(monkeypatch, resumable=True)
    with pytest.raises(AirflowSkipException):
        task.after_waiting(
            context("flights.ingest", partition_key="2013-07"),
            {"interval": "2013-06", "landed": False, "reason": str(late)},
        )
    with pytest.raises(DagRunTriggerException) as caught:
        after(
            {"intervals": ["2013-04", "2013-05", "2013-06"]}, context("flights.ingest", partition_key=None, params=SPAN)
        )
    assert caught.value.conf == {"interval": "2013-07"}


def test_a_span_that_did_not_land_to_its_end_fails_last_and_the_rest_follows_what_was_refused(context, store) -> None:
    given = context("flights.ingest", partition_key=None, params=SPAN)
    land(store, "2013-04")
    with pytest.raises(AirflowFailException) as caught:
        after({"intervals": ["2013-04"]}, given, validate={"refused": {"2013-05": "two headers"}})
    assert str(caught.value) == (
        "2013-05 has not landed, nor has what comes after it in this span.\n2013-05: two headers\nWhen that is mended: "
        """airflow dags trigger flights.ingest -c '{"interval": "2013-05"}'; 2013-06 follows by itself."""
    )
    note_failed(given)
    assert store.names("stalled") == ["stalled/2013-05.json", "stalled/2013-06.json"]
    with pytest.raises(DagRunTriggerException) as mended:
        after({"interval": "2013-05"}, context("flights.ingest", partition_key="2013-05"))
    assert mended.value.conf == {"interval": "2013-06"}


def test_what_another_run_published_meanwhile_is_not_missing(context, store) -> None:
    with pytest.raises(AirflowSkipException, match="no interval waits for 2013-06"):
        after(
            {"intervals": ["2013-04", "2013-06"], "skipped": ["2013-05"]},
            context("flights.ingest", partition_key=None, params=SPAN),
        )


def test_an_interval_in_the_middle_of_a_span_is_not_started_again(context, store) -> None:
    """Its own run gave up while the span was at work."""
    note = {"interval": "2013-05", "waits_for": "2013-04", "run": "r", "through": "2013-05"}
    store.write_json("stalled/2013-05.json", note)
    with pytest.raises(AirflowSkipException, match="no interval waits for 2013-06"):
        after(
            {"intervals": ["2013-04", "2013-05", "2013-06"]},
            context("flights.ingest", partition_key=None, params=SPAN),
        )


def test_a_span_at_work_again_is_waited_for(context, monkeypatch, store) -> None:
    given = context("flights.ingest", partition_key=None, params=SPAN)
    note_failed(given)
    assert len(store.names("stalled")) == 3
    task = waiting(monkeypatch, resumable=True)
    monkeypatch.setattr(task, "perform", lambda _: {"interval": "2013-04"})
    task.execute(given)
    assert store.names("stalled") == []


@pytest.fixture
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Store]:
    """Two models, each with a store of its own."""
    stores = {model: Store(url_of(tmp_path / model)) for model in ("flights", "second")}
    monkeypatch.setattr(waiting_module, "store_of", stores.__getitem__)
    return stores


def test_what_another_model_lands_wakes_nobody(apart) -> None:
    land(apart["second"], "2013-03")
    assert not first_event(LandedTrigger("flights", "2013-03", time.time() - 1))["landed"]
    assert first_event(LandedTrigger("second", "2013-03", time.time() - 1))["landed"]


def test_a_stalled_interval_is_noted_and_taken_up_again_by_its_own_model_alone(context, apart, monkeypatch) -> None:
    with pytest.raises(AirflowSkipException):
        give_up(waiting(monkeypatch, resumable=True), context("flights.ingest"))
    assert len(apart["flights"].names("stalled")) == 1 and not apart["second"].names("stalled")
    given = {**context("second.ingest", partition_key="2013-03"), "ti": SimpleNamespace(xcom_pull=lambda task_ids: {})}
    with pytest.raises(AirflowSkipException, match="no interval waits for 2013-03"):
        ResumeOperator(model="second", task_id="resume", published="publish").execute(given)
