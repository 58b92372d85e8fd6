from __future__ import annotations

from datetime import UTC, datetime

import pytest
from airflow.sdk import PartitionedAssetTimetable

from tests.airflow_dags import DAG_IDS, bag, dag, stored


def outlets(dag_id: str, task_id: str) -> list[str]:
    return [asset.name for asset in dag(dag_id).get_task(task_id).outlets]


def arrows(dag_id: str) -> dict[str, set[str]]:
    return {task.task_id: set(task.downstream_task_ids) for task in dag(dag_id).tasks}


def listens_to(dag_id: str) -> set[str]:
    assert isinstance(dag(dag_id).timetable, PartitionedAssetTimetable), (
        f"{dag_id}: use by_month(...), else months coalesce"
    )
    return {key.name for key, _ in stored(dag_id).timetable.asset_condition.iter_assets()}


def test_every_file_is_one_dag_and_parses() -> None:
    assert not bag().import_errors
    assert set(bag().dags) == set(DAG_IDS)


@pytest.mark.parametrize("dag_id", DAG_IDS)
def test_airflow_can_store_it(dag_id: str) -> None:
    assert set(stored(dag_id).task_ids) == set(dag(dag_id).task_ids)


def test_the_loop_is_closed() -> None:
    assert outlets("ingest", "publish") == ["landed"]
    assert listens_to("score") == {"landed", "rescore"}
    assert outlets("score", "score") == ["scored"]
    assert listens_to("monitor") == {"scored"}
    assert outlets("monitor", "request_retrain") == ["retrain_requested"]
    assert listens_to("train") == {"retrain_requested"}
    assert outlets("train", "register") == ["approved"]
    assert listens_to("deploy") == {"approved"}
    assert (outlets("deploy", "deploy"), outlets("deploy", "rescore")) == (["live"], ["rescore"])


def test_monitor_records_whether_or_not_it_asks() -> None:
    assert arrows("monitor") == {"monitor": {"request_retrain"}, "request_retrain": set()}
    assert outlets("monitor", "monitor") == []


def test_ingest_waits_until_the_month_before_is_published() -> None:
    first = dag("ingest").get_task("ingest")
    assert first.depends_on_past and first.wait_for_downstream
    assert "publish" in first.downstream_task_ids, "wait_for_downstream only sees what hangs directly on the first task"
    assert first.names == ["manifest", "ingest"]


def test_ingest_s_calendar_is_the_example_s_year_in_months() -> None:
    from airflow.timetables.base import TimeRestriction

    ingest = stored("ingest")
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
        "switching the DAG on must not run last month of today's calendar"
    )
    assert ingest.start_date == datetime(2013, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("dag_id", ["train", "deploy", "score", "monitor"])
def test_what_changes_the_world_runs_one_at_a_time(dag_id: str) -> None:
    assert dag(dag_id).max_active_runs == 1


@pytest.mark.parametrize(
    ("params", "month", "arguments"),
    [
        ({"version": None, "reason": None}, "2013-03", ["--month", "2013-03"]),
        ({"version": 1, "reason": "worse in May"}, None, ["--rollback", "1", "--why", "worse in May"]),
        ({"version": 2, "reason": None}, None, ["--rollback", "2"]),
        ({"version": None, "reason": None}, None, ["--reconcile"]),
    ],
)
def test_deploy_promotes_rolls_back_or_heals(params, month, arguments) -> None:
    from types import SimpleNamespace

    run = SimpleNamespace(dag_id="deploy", partition_key=month, data_interval_start=None, data_interval_end=None)
    assert dag("deploy").get_task("deploy").arguments({"dag_run": run, "params": params}) == arguments


@pytest.mark.parametrize(
    ("dag_id", "conf"),
    [
        ("ingest", {"month": "2013-13"}),
        ("score", {"month": "April"}),
        ("monitor", {"month": 201304}),
        ("train", {"month": "2013-4"}),
        ("train", {"overrides": {"train": 1}}),
        ("train", {"overrides": ["train.xgboost.eta=0.2"]}),
        ("deploy", {"version": "1"}),
        ("deploy", {"version": 0}),
    ],
)
def test_the_form_refuses_nonsense(dag_id: str, conf: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="Invalid input for param"):
        stored(dag_id).params.deep_merge(conf).validate()


@pytest.mark.parametrize(
    ("dag_id", "conf"),
    [
        ("ingest", {"month": "2013-04"}),
        (
            "train",
            {"month": "2013-12", "overrides": {"gate.floors.auc": 0.9, "golden.digest": None}, "reason": "to try"},
        ),
        ("deploy", {"version": 3, "reason": "worse in May"}),
        ("score", {}),
    ],
)
def test_the_form_takes_what_it_describes(dag_id: str, conf: dict[str, object]) -> None:
    stored(dag_id).params.deep_merge(conf).validate()
