from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
from airloop.notify import describe, report_failure


@pytest.fixture
def failed(context):
    given = context()
    given["ti"] = SimpleNamespace(dag_id="flights.train", task_id="gate", log_url="http://127.0.0.1:8080/dags/train")
    given["exception"] = ValueError("the golden set\nis empty")
    return given


def test_one_readable_line(failed) -> None:
    assert describe(failed) == (
        "Airloop: flights.train.gate failed for 2013-04: the golden set is empty (log: http://127.0.0.1:8080/dags/train)"
    )


def test_without_a_url_it_is_only_logged(failed, caplog, monkeypatch) -> None:
    monkeypatch.delenv("AIRLOOP_APPRISE_URL", raising=False)
    with caplog.at_level(logging.ERROR):
        report_failure(failed)
    assert caplog.messages == [describe(failed)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # apprise's own, while it is imported
def test_a_notification_that_cannot_be_sent_is_logged_without_its_secret(failed, caplog, monkeypatch) -> None:
    pytest.importorskip("apprise")
    monkeypatch.setenv("AIRLOOP_APPRISE_URL", "json://user:hunter2@127.0.0.1:9")
    with caplog.at_level(logging.ERROR, logger="airloop.notify"):
        report_failure(failed)
    assert "AIRLOOP_APPRISE_URL" in caplog.text
    assert "hunter2" not in "".join(r.message for r in caplog.records if r.name == "airloop.notify")
