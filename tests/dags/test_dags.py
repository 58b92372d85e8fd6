from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from airflow.sdk import PartitionedAssetTimetable
from airloop.waiting import note_failed

from tests.airflow_dags import DAG_IDS, MODELS, NAMES, bag, dag, stored
from tests.airflow_home import ROOT

every_model = pytest.mark.parametrize("model", MODELS)


def outlets(dag_id: str, task_id: str) -> list[str]:
    return [asset.name for asset in dag(dag_id).get_task(task_id).outlets]


def arrows(dag_id: str) -> dict[str, set[str]]:
    return {task.task_id: set(task.downstream_task_ids) for task in dag(dag_id).tasks}


def listens_to(dag_id: str) -> set[str]:
    assert isinstance(dag(dag_id).timetable, PartitionedAssetTimetable), (
        f"{dag_id}: use by_interval(...), else intervals coalesce"
    )
    return {key.name for key, _ in stored(dag_id).timetable.asset_condition.iter_assets()}


def test_every_file_makes_its_dag_for_every_model() -> None:
    assert not bag().import_errors
    assert set(bag().dags) == set(DAG_IDS), (
        "Airflow passes over a file that has not the words `dag` and `airflow` in it"
    )
    assert {path.stem for path in (ROOT / "dags").glob("*.py")} == set(NAMES)
    assert all(Path(found.fileloc).stem == dag_id.partition(".")[2] for dag_id, found in bag().dags.items())


@pytest.mark.parametrize("dag_id", DAG_IDS)
def test_it_is_found_by_its_model_and_its_tasks_know_whose_they_are(dag_id: str) -> None:
    model = dag_id.partition(".")[0]
    assert {"airloop", model} <= set(dag(dag_id).tags)
    assert {task.model for task in dag(dag_id).tasks if hasattr(task, "model")} == {model}
    assert "<model>" not in dag(dag_id).doc_md


@pytest.mark.parametrize("dag_id", DAG_IDS)
def test_airflow_can_store_it(dag_id: str) -> None:
    assert set(stored(dag_id).task_ids) == set(dag(dag_id).task_ids)


@every_model
def test_the_loop_is_closed(model: str) -> None:
    assert outlets(f"{model}.ingest", "publish") == [f"{model}/landed"]
    assert listens_to(f"{model}.score") == {f"{model}/landed", f"{model}/rescore"}
    assert outlets(f"{model}.score", "score") == [f"{model}/scored"]
    assert listens_to(f"{model}.monitor") == {f"{model}/scored"}
    assert outlets(f"{model}.monitor", "request_retrain") == [f"{model}/retrain_requested"]
    assert listens_to(f"{model}.train") == {f"{model}/retrain_requested"}
    assert outlets(f"{model}.train", "register") == [f"{model}/approved"]
    assert listens_to(f"{model}.deploy") == {f"{model}/approved"}
    assert (outlets(f"{model}.deploy", "deploy"), outlets(f"{model}.deploy", "rescore")) == (
        [f"{model}/live"],
        [f"{model}/rescore"],
    )


@every_model
def test_monitor_records_whether_or_not_it_asks(model: str) -> None:
    assert arrows(f"{model}.monitor") == {"monitor": {"request_retrain"}, "request_retrain": set()}
    assert outlets(f"{model}.monitor", "monitor") == []


@every_model
def test_ingest_waits_by_the_store_and_starts_again_what_waits_for_it(model: str) -> None:
    assert arrows(f"{model}.ingest") == {
        "ingest": {"validate"}, "validate": {"features"}, "features": {"publish"}, "publish": {"resume"}, "resume": set(),
    }  # fmt: skip
    first, last = dag(f"{model}.ingest").get_task("ingest"), dag(f"{model}.ingest").get_task("resume")
    assert first.names == ["manifest", "ingest"]
    assert first.resumable, "the first task is the one that waits, and its run is started again by `resume`"
    assert last.published == "publish"
    waiting = [t.task_id for t in dag(f"{model}.ingest").tasks if t.depends_on_past or t.wait_for_downstream]
    assert not waiting, "they wait for a run that may never come: an interval by hand, a run that was deleted"


@every_model
def test_an_interval_that_fails_to_land_lets_those_that_wait_for_it_end(model: str) -> None:
    for task in dag(f"{model}.ingest").tasks:
        assert note_failed in task.on_failure_callback


def test_ingest_s_calendar_is_the_example_s_year_in_intervals() -> None:
    from airflow.timetables.base import TimeRestriction

    ingest = stored("flights.ingest")
    year = TimeRestriction(ingest.start_date, ingest.end_date, catchup=True)
    intervals, last = [], None
    while info := ingest.timetable.next_dagrun_info(last_automated_data_interval=last, restriction=year):
        last = info.data_interval
        intervals.append(f"{last.start:%Y-%m-%d} {last.end:%Y-%m-%d}")
    assert len(intervals) == 12
    assert intervals[0] == "2013-01-01 2013-02-01"
    assert intervals[-1] == "2013-12-01 2014-01-01"
    today = TimeRestriction(ingest.start_date, ingest.end_date, catchup=ingest.catchup)
    assert ingest.timetable.next_dagrun_info(last_automated_data_interval=None, restriction=today) is None, (
        "switching the DAG on must not run last interval of today's calendar"
    )
    assert ingest.start_date == datetime(2013, 1, 1, tzinfo=UTC)


@every_model
@pytest.mark.parametrize("name", ["train", "score", "monitor"])
def test_what_changes_the_world_runs_one_at_a_time(model: str, name: str) -> None:
    assert dag(f"{model}.{name}").max_active_runs == 1


@every_model
def test_a_rollback_by_the_form_does_not_queue_behind_a_deploy_that_waits(model: str) -> None:
    """They may run side by side: the ledger takes one decision, and the other stops (tests/tasks/test_deploy_interleaved.py)."""
    assert dag(f"{model}.deploy").max_active_runs > 1


@pytest.mark.parametrize(
    ("params", "interval", "arguments"),
    [
        ({"version": None, "reason": None}, "2013-03", ["--interval", "2013-03"]),
        ({"version": 1, "reason": "- worse in May"}, None, ["--rollback", "1", "--why=- worse in May"]),
        ({"version": 2, "reason": None}, None, ["--rollback", "2"]),
        ({"version": None, "reason": None}, None, ["--reconcile"]),
    ],
)
def test_deploy_promotes_rolls_back_or_heals(params, interval, arguments) -> None:
    from types import SimpleNamespace

    run = SimpleNamespace(
        dag_id="flights.deploy", partition_key=interval, data_interval_start=None, data_interval_end=None
    )
    assert dag("flights.deploy").get_task("deploy").arguments({"dag_run": run, "params": params}) == arguments


@pytest.mark.parametrize(
    ("name", "conf"),
    [
        ("ingest", {"interval": "2013-13"}),
        ("score", {"interval": "April"}),
        ("monitor", {"interval": 201304}),
        ("train", {"interval": "2013-4"}),
        ("train", {"overrides": {"train": 1}}),
        ("train", {"overrides": ["train.xgboost.eta=0.2"]}),
        ("deploy", {"version": "1"}),
        ("deploy", {"version": 0}),
    ],
)
def test_the_form_refuses_nonsense(name: str, conf: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="Invalid input for param"):
        stored(f"flights.{name}").params.deep_merge(conf).validate()


@pytest.mark.parametrize(
    ("name", "conf"),
    [
        ("ingest", {"interval": "2013-04"}),
        (
            "train",
            {"interval": "2013-12", "overrides": {"gate.floors.auc": 0.9}, "exploratory": True, "reason": "to try"},
        ),
        ("deploy", {"version": 3, "reason": "worse in May"}),
        ("score", {}),
    ],
)
def test_the_form_takes_what_it_describes(name: str, conf: dict[str, object]) -> None:
    stored(f"flights.{name}").params.deep_merge(conf).validate()
