from __future__ import annotations

from pathlib import Path

import pytest
from airloop import pages
from fastapi.testclient import TestClient

from tasks.common.artefacts import Store
from tasks.common.ledger import Evidence, Ledger

EVIDENCE = Evidence(model="a" * 64, contract="b" * 64, gate=None, run="train-2013-03-x", data_through="2013-03")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Four landed months: one watched, one scored twice with another champion, one scored, one only landed."""
    made = Store(tmp_path.as_uri())
    for month in ("2013-03", "2013-04", "2013-05", "2013-06"):
        made.write_json(
            f"landed/{month}.json", {"counts": {"flights": {"landed": 28330, "kept": 28329, "quarantined": 1}}}
        )
    made.write_json("predictions/2013-03/scored.json", {"status": "warming up", "champion": None, "features": "f3"})
    made.write_json(
        "reports/2013-03/monitor.json", {"retrain": True, "reason": "the warm-up is over", "outcome": "retrain"}
    )
    made.write_json("predictions/2013-04/scored.json", {"status": "scored", "champion": 2, "features": "f4"})
    for champion, ece in ((1, 0.075), (2, 0.041)):
        made.write_json(f"decisions/2013-04/f4-v{champion}.json", {
            "champion": champion, "features": "f4", "ece": ece, "auc": 0.7, "retrain": champion == 1,
            "outcome": "retrain" if champion == 1 else "keep", "reason": "<script>alert(1)</script>",
        })  # fmt: skip
    made.write("reports/2013-04/drift.html", b"<html><script>draw()</script></html>")
    made.write_json("predictions/2013-05/scored.json", {"status": "scored", "champion": 2, "features": "f5"})
    Ledger(made).append(
        action="promote",
        to_version=2,
        effective_from="2013-04",
        who="airflow: deploy x",
        why="gate: passed",
        evidence=EVIDENCE,
    )
    monkeypatch.setattr(pages, "_store", lambda: made)
    return made


@pytest.fixture
def client() -> TestClient:
    """Somebody who is logged in."""
    allowed = pages.app.router.dependencies[0].dependency
    pages.app.dependency_overrides[allowed] = lambda: None
    yield TestClient(pages.app)
    pages.app.dependency_overrides.clear()


@pytest.mark.parametrize("path", ["/", "/overview.json", "/reports/2013-04", "/reports/2013-04/monitor.json"])
def test_nobody_gets_anything_without_a_login(store: Store, path: str) -> None:
    assert TestClient(pages.app).get(path).status_code == 401


def test_no_page_of_the_application_is_without_the_guard() -> None:
    assert pages.app.openapi_url is None and pages.app.docs_url is None and pages.app.redoc_url is None
    assert pages.app.router.dependencies


def test_the_overview_joins_what_the_stages_recorded(store: Store) -> None:
    found = pages.overview(store)
    march, april, may, _ = found["months"]
    assert found["live"]["to_version"] == 2
    assert (march["status"], march["retrain"]) == ("warming up", True)
    assert (april["champion"], april["ece"], april["outcome"]) == (2, 0.041, "keep")
    assert found["pending"] == ["2013-05: has predictions, not monitored yet", "2013-06: landed, not scored yet"]
    assert (may["report"], april["report"]) == (False, True)


def test_the_page_shows_it_and_runs_nothing_of_it(store: Store, client: TestClient) -> None:
    answer = client.get("/")
    assert answer.status_code == 200
    assert "v2 is live" in answer.text and "28,330" in answer.text and "0.0410" in answer.text
    assert "<script>" not in answer.text and "&lt;script&gt;" in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_links_are_where_they_work(store: Store, client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    alone, framed = client.get("/").text, client.get("/", headers={"sec-fetch-dest": "iframe"}).text
    assert '<a href="http://127.0.0.1:5000">' in alone and '<a href="/dags/deploy/runs/x"' in alone
    assert "http://127.0.0.1:5000" in framed and '<a href="http' not in framed and '<a href="/dags' not in framed


def test_a_report_is_served_in_a_sandbox(store: Store, client: TestClient) -> None:
    answer = client.get("/reports/2013-04")
    assert "draw()" in answer.text
    assert answer.headers["content-security-policy"] == "sandbox allow-scripts"
    assert client.get("/reports/2013-06").status_code == 404
    assert client.get("/reports/..%2f..%2fledger").status_code in (404, 422)


def test_a_broken_ledger_is_said_and_not_hidden(store: Store, client: TestClient) -> None:
    store.write("ledger/000001.json", b"{}")
    answer = client.get("/")
    assert answer.status_code == 200 and "is not a ledger entry" in answer.text


def test_an_empty_store_is_no_error(tmp_path: Path, client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "_store", lambda: Store((tmp_path / "none").as_uri()))
    assert "No month has landed yet" in client.get("/").text
