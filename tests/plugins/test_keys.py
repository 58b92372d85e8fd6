from __future__ import annotations

from datetime import UTC, datetime

import pytest
from airloop.keys import interval_of, require_interval, run_key, variables, who

INTERVAL = {
    "data_interval_start": datetime(2013, 4, 1, tzinfo=UTC),
    "data_interval_end": datetime(2013, 5, 1, tzinfo=UTC),
}


def test_the_partition_comes_before_the_form_and_the_form_before_the_calendar(context) -> None:
    form = {"interval": "2013-05"}
    assert interval_of(context(partition_key="2013-06", params=form, **INTERVAL)) == "2013-06"
    assert interval_of(context(partition_key=None, params=form, **INTERVAL)) == "2013-05"
    assert interval_of(context(partition_key=None, params={"interval": None}, **INTERVAL)) == "2013-04"


def test_an_interval_without_length_names_no_interval(context) -> None:
    moment = datetime(2026, 11, 22, tzinfo=UTC)
    assert interval_of(context(partition_key=None, data_interval_start=moment, data_interval_end=moment)) is None


def test_a_run_about_no_interval_says_how_to_name_one(context) -> None:
    with pytest.raises(ValueError, match=r"airflow dags trigger flights.ingest -c '\{\"interval\": \"2013-04\"\}'"):
        require_interval(context("flights.ingest", partition_key=None))


def test_run_keys_have_no_colon_and_differ_between_runs_only(context) -> None:
    one, again = run_key(context()), run_key(context())
    assert one == again
    assert one != run_key(context(run_id="manual__2026-11-22T03:50:08+00:00"))
    assert one.startswith("flights-train-2013-04-") and len(one) == len("flights-train-2013-04-") + 8
    assert ":" not in one and "/" not in one
    assert run_key(context("flights.deploy", partition_key=None)).startswith("flights-deploy-by-hand-")


def test_the_ledger_learns_who_asked(context) -> None:
    assert who(context(run_id="manual__x", triggering_user_name="ada")) == "airflow: flights.train manual__x by ada"
    assert who(context(run_id="manual__x")) == "airflow: flights.train manual__x"


def test_a_process_knows_its_run_and_who_asked_and_the_rest_from_its_command_line(context) -> None:
    given = context(params={"reason": "new data", "overrides": {"train.xgboost.eta": 0.2}})
    assert variables(given) == {"AIRLOOP_RUN": run_key(given), "AIRLOOP_WHO": who(given)}
