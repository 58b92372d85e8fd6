from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG, Asset
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskDeferred
from airloop.landed_trigger import LandedTrigger
from airloop.process import CommandError
from airloop.running import job_argv, running_argv
from airloop.stage import job, stage

from tests.plugins.checkout import make
from tests.plugins.conftest import FLIGHTS

THING = Asset(name="thing", uri="x-airloop://thing")


@pytest.fixture(autouse=True)
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout whose `tasks.running` only reports what it was asked."""
    return make(tmp_path, monkeypatch)


def run(task: Any, context: dict[str, Any]) -> Any:
    return task.execute(context)


def test_a_stage_is_run_in_the_run_s_workspace_and_reports(context, checkout) -> None:
    report = run(stage(FLIGHTS, "manifest", "ingest"), context("flights.ingest"))
    assert report["argv"][:3] == ["stage", "manifest", "ingest"]
    key = report["argv"][4]
    assert key.startswith("flights-ingest-2013-04-")
    assert report["argv"][3:] == [
        "--run", key, "--model", "flights", "--first", "2013-04", "--last", "2013-04", "--begins",
    ]  # fmt: skip
    assert report["cwd"] == report["path"] == str(checkout)
    assert report["who"].startswith("airflow: flights.ingest ")
    assert report["run"] == key


def test_the_command_is_about_the_task_s_own_model(context) -> None:
    report = run(stage(dataclasses.replace(FLIGHTS, name="second"), "train"), context("second.train"))
    assert report["argv"][2:6] == ["--run", report["run"], "--model", "second"]
    assert report["run"].startswith("second-train-2013-04-")


def test_only_the_first_task_of_a_dag_begins_its_run(context) -> None:
    with DAG("train", schedule=None):
        first, second = stage(FLIGHTS, "golden"), stage(FLIGHTS, "train")
        first >> second
    assert "--begins" in run(first, context())["argv"]
    assert "--begins" not in run(second, context())["argv"]


def test_the_report_becomes_the_asset_event_of_the_interval(context) -> None:
    given = context()
    run(job(FLIGHTS, "register", outlets=[THING]), given)
    assert given["outlet_events"]["thing"].partitions == ["2013-04"]
    assert given["outlet_events"]["thing"].extra["interval"] == "2013-04"


def test_a_report_may_be_about_other_intervals(context) -> None:
    given = context("flights.deploy", partition_key=None)
    run(job(FLIGHTS, "rescore", outlets=[THING]), given)
    assert given["outlet_events"]["thing"].partitions == ["2013-04", "2013-05"]


@pytest.mark.parametrize(
    ("word", "error"),
    [
        ("skip", AirflowSkipException),
        ("refuse", AirflowFailException),
        ("wait", CommandError),
        ("crash", CommandError),
    ],
)
def test_who_is_not_done_announces_nothing(context, word: str, error: type[Exception]) -> None:
    given = context()
    with pytest.raises(error):
        run(job(FLIGHTS, "register", outlets=[THING], arguments=lambda _: [word]), given)
    assert not given["outlet_events"]


def test_a_run_that_needs_another_interval_first_waits_for_it_without_a_worker(context, monkeypatch) -> None:
    monkeypatch.setenv("AIRLOOP_WAIT_MINUTES", "7")
    with pytest.raises(TaskDeferred) as caught:
        run(job(FLIGHTS, "register", arguments=lambda _: ["wait-for"]), context())
    trigger = caught.value.trigger
    assert isinstance(trigger, LandedTrigger) and trigger.interval == "2013-03"
    assert caught.value.method_name == "after_waiting"


def test_overrides_a_reason_and_a_job_s_arguments_reach_the_command_line(context) -> None:
    given = context(params={"overrides": {"train.xgboost.eta": 0.2, "golden.digest": None}, "reason": "new data"})
    argv = running_argv("job", ["publish"], given, ["--rest", "--why", "x"], model="flights")
    assert argv[argv.index("--reason=new data") :] == [
        "--reason=new data", "--set", "train.xgboost.eta=0.2", "--set", "golden.digest=null", "--rest", "--why", "x",
    ]  # fmt: skip


def test_what_a_person_gave_is_read_as_it_was_given(context) -> None:
    """Settings as YAML reads what JSON wrote, and a reason that looks like an option."""
    from tasks.running.cli import _parser

    overrides = {"a.text": "yes", "a.number": "0.7", "a.list": [1, "x"], "a.none": None, "a.flag": True, "a.eq": "b=c"}
    given = context(params={"overrides": overrides, "reason": "--why-not"})
    parsed = _parser().parse_args(
        running_argv("job", ["deploy"], given, ["--rest", "--rollback", "3", "--last", "x"], model="flights")[2:]
    )
    assert (dict(parsed.set), parsed.reason, parsed.last) == (overrides, "--why-not", "2013-04")
    assert parsed.rest == ["--rollback", "3", "--last", "x"]


def test_without_an_interval_nothing_is_started(context) -> None:
    with pytest.raises(AirflowFailException, match="about no interval"):
        running_argv("stage", ["train"], context(partition_key=None), model="flights")


def test_a_job_without_a_workspace_needs_no_interval(context) -> None:
    given = context("flights.deploy", partition_key=None)
    report = run(job(FLIGHTS, "deploy", arguments=lambda _: ["--rollback", "3", "--why", "worse in May"]), given)
    assert report["argv"][:2] == ["job", "deploy"] and "--first" not in report["argv"]
    assert report["argv"][4:6] == ["--model", "flights"]
    assert report["argv"][-5:] == ["--rest", "--rollback", "3", "--why", "worse in May"]
    assert "--rest" not in job_argv("rescore", given, [], model="flights")


def test_what_is_done_of_a_span_is_reported(context) -> None:
    report = run(job(FLIGHTS, "register", arguments=lambda _: ["span"]), context())
    assert report["intervals"] == ["2013-03", "2013-05"], "2013-04 was refused, and fails nothing"


SPAN = {"interval": "2013-03", "through": "2013-05"}


def test_a_run_by_hand_takes_a_span(context) -> None:
    given = context("flights.ingest", partition_key=None, params=SPAN)
    argv = running_argv("stage", ["ingest"], given, model="flights")
    assert argv[argv.index("--first") :] == ["--first", "2013-03", "--last", "2013-05"]
    assert "flights-ingest-2013-03-" in argv[argv.index("--run") + 1]


def test_a_span_that_ends_before_it_begins_is_refused(context) -> None:
    given = context(partition_key=None, params={"interval": "2013-05", "through": "2013-03"})
    with pytest.raises(AirflowFailException, match="`through` 2013-03 is before `interval` 2013-05"):
        running_argv("stage", ["ingest"], given, model="flights")


def test_each_interval_of_a_span_that_is_done_is_announced(context) -> None:
    given = context("flights.ingest", partition_key=None, params=SPAN)
    told = run(job(FLIGHTS, "publish", outlets=[THING], arguments=lambda _: ["span"]), given)
    assert given["outlet_events"]["thing"].partitions == ["2013-03", "2013-05"]
    assert told["refused"] == {"2013-04": "bad rows"} and told["skipped"] == []
