from __future__ import annotations

import json
from pathlib import Path

import pytest
from airloop import pages
from fastapi.testclient import TestClient

from tasks.core.urls import url_of
from tasks.registry import notices
from tasks.registry.ledger import Ledger
from tasks.storage.artefacts import Store
from tests.airflow_dags import checkout
from tests.airflow_home import ROOT
from tests.plugins.conftest import EVIDENCE, FLIGHTS, land


def monitored(
    champion: int | None, features: str, outcome: str, reason: str, ece: float | None = None
) -> dict[str, object]:
    """monitor.json, as far as the page reads it."""
    measures = {"version": champion, **{name: {"value": ece} for name in ("auc", "log_loss", "ece")}}
    decision = {
        "champion": champion,
        "features": features,
        "retrain": outcome == "retrain",
        "outcome": outcome,
        "reason": reason,
    }
    audit = {"sentence": "v1 was better on this interval", "rollback": True} if champion else None
    return {"champion": measures if champion else None, "decision": decision, "alarms": [], "audit": audit}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Landed intervals: warming up, watched, scored, only landed, and scored again since it was watched."""
    made = Store(url_of(tmp_path))
    for interval in ("2013-03", "2013-04", "2013-05", "2013-06", "2013-07"):
        counts = {
            "interval": interval,
            "flights": {"landed": 28330, "kept": 28329, "quarantined": 1},
            "weather": {"landed": 2010, "kept": 2008, "quarantined": 2},
            "reasons": {"wind_speed is outside 0 to 200": 3},
        }
        land(made, interval, counts)
    for interval, champion in (("2013-03", None), ("2013-04", 2), ("2013-05", 2), ("2013-07", 2)):
        status = "warming up" if champion is None else "scored"
        made.write_json(
            f"predictions/{interval}/scored.json", {"status": status, "champion": champion, "features": interval}
        )
    made.write_json("reports/2013-03/monitor.json", monitored(None, "2013-03", "retrain", "the warm-up is over"))
    made.write_json("reports/2013-04/monitor.json", monitored(2, "2013-04", "keep", "<script>alert(1)</script>", 0.041))
    made.write("reports/2013-04/drift.html", b"<html><script>draw()</script></html>")
    made.write_json("reports/2013-07/monitor.json", monitored(1, "2013-07", "retrain", "ECE", 0.08))
    Ledger(made).append(
        expect=0,
        action="promote",
        to_version=2,
        effective_from="2013-04",
        who="airflow: flights.deploy x",
        why="gate: passed",
        evidence=EVIDENCE,
    )
    monkeypatch.setattr(pages, "store_of", {"flights": made}.__getitem__)
    return made


@pytest.fixture
def client() -> TestClient:
    """Somebody who is logged in."""
    allowed = pages.app.router.dependencies[0].dependency
    pages.app.dependency_overrides[allowed] = lambda: None
    yield TestClient(pages.app)
    pages.app.dependency_overrides.clear()


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/flights/",
        "/flights/overview.json",
        "/flights/reports/2013-04/drift.html",
        "/flights/reports/2013-04/monitor.json",
    ],
)
def test_nobody_gets_anything_without_a_login(store: Store, path: str) -> None:
    assert TestClient(pages.app).get(path).status_code == 401


def test_no_page_of_the_application_is_without_the_guard() -> None:
    assert pages.app.openapi_url is None and pages.app.docs_url is None and pages.app.redoc_url is None
    assert pages.app.router.dependencies


def test_the_overview_joins_what_the_stages_recorded(store: Store) -> None:
    found = pages.overview(FLIGHTS)
    march, april, may, _, july = found["intervals"]
    assert found["live"]["to_version"] == 2
    assert (march["landed"], march["kept"], march["quarantined"]) == (30340, 30337, 3), "of both tables"
    assert (march["status"], march["retrain"]) == ("warming up", True)
    assert (april["champion"], april["ece"], april["outcome"]) == (2, 0.041, "keep")
    assert found["pending"] == [
        "2013-05: scored, not monitored yet",
        "2013-06: landed, not scored yet",
        "2013-07: scored again, not monitored again yet",
    ]
    assert (may["reports"], april["reports"]) == ([], ["drift.html", "monitor.json"])
    assert (april["notes"], july["champion"]) == (["v1 was better on this interval"], 2)


def test_a_page_has_a_year_of_intervals_and_leads_to_those_before(store: Store, client: TestClient) -> None:
    keys = [f"{year}-{month:02d}" for year in (2014, 2015) for month in range(1, 13)]
    for interval in keys:
        land(store, interval, {})
    found = pages.overview(FLIGHTS)
    assert [row["interval"] for row in found["intervals"]] == keys[12:]
    assert (found["landed"], found["older"], found["before"]) == (29, "2015-01", None)
    text = client.get("/flights/").text
    assert "12 of 29 landed intervals" in text and 'href="/airloop/flights/?before=2015-01"' in text
    assert "Newest" not in text
    shown = [row["interval"] for row in client.get("/flights/overview.json?before=2015-01").json()["intervals"]]
    assert shown == keys[:12]
    last = client.get("/flights/?before=2014-01").text
    assert "2013-03" in last and "Older" not in last and "Newest" in last
    assert client.get("/flights/?before=x").status_code == 422


def test_the_page_shows_it_and_runs_nothing_of_it(store: Store, client: TestClient) -> None:
    answer = client.get("/flights/")
    assert answer.status_code == 200
    assert "v2 is live" in answer.text and "30,340" in answer.text and "0.0410" in answer.text
    assert "<script>" not in answer.text and "&lt;script&gt;" in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_the_list_has_every_model_and_leads_to_its_page(store: Store, client: TestClient) -> None:
    text = client.get("/").text
    assert '<a href="/airloop/flights/">flights</a>' in text and "monthly" in text
    assert "v2" in text and "2013-07" in text
    page = client.get("/flights/").text
    assert '<a href="/airloop/">Airloop</a>' in page
    assert 'href="/airloop/flights/reports/2013-04/drift.html"' in page


@pytest.fixture
def three(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flights, a model whose spec is broken, and one whose store cannot be read."""
    spec = json.loads((ROOT / "models/flights/spec.json").read_text())
    checkout(tmp_path / "checkout", {"broken": "{", "flights": spec, "lost": {**spec, "name": "lost"}})
    monkeypatch.setenv("AIRLOOP_CODE", str(tmp_path / "checkout"))

    def store_of(model: str) -> Store:
        if model == "lost":
            raise OSError("the bucket is gone")
        return store

    monkeypatch.setattr(pages, "store_of", store_of)


def test_a_model_that_cannot_be_read_takes_no_other_from_the_list(three: None, client: TestClient) -> None:
    text = client.get("/").text
    assert "models/broken/spec.json cannot be read" in text and 'href="/airloop/broken/"' not in text
    assert "The artefact store cannot be read: the bucket is gone" in text
    assert "v2" in text
    assert "the bucket is gone" in client.get("/lost/").text
    assert "v2 is live" in client.get("/flights/").text


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/unknown/", "There is no model 'unknown' in models/; there are broken, flights, lost."),
        ("/broken/overview.json", "models/broken/spec.json cannot be read"),
        ("/unknown/reports/2013-04/drift.html", "There is no model 'unknown'"),
    ],
)
def test_a_model_that_is_not_there_is_not_found(three: None, client: TestClient, path: str, said: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404 and said in answer.json()["detail"]


def test_links_are_where_they_work(store: Store, client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    alone, framed = client.get("/flights/").text, client.get("/flights/", headers={"sec-fetch-dest": "iframe"}).text
    assert '<a href="http://127.0.0.1:5000">' in alone and '<a href="/dags/flights.deploy/runs/x"' in alone
    assert "http://127.0.0.1:5000" in framed and '<a href="http' not in framed and '<a href="/dags' not in framed


def test_links_that_are_told_are_shown_in_place_of_the_servers_own(
    client: TestClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In containers the api-server knows MLflow by a name that no browser does."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    monkeypatch.setenv("AIRLOOP_LINKS", '{"MLflow": "http://127.0.0.1:5000", "Trap": "javascript:alert(1)"}')
    text = client.get("/flights/").text
    assert '<a href="http://127.0.0.1:5000">MLflow</a>' in text
    assert "mlflow:5000" not in text and "javascript" not in text


def test_a_report_is_served_in_a_sandbox(store: Store, client: TestClient) -> None:
    answer = client.get("/flights/reports/2013-04/drift.html")
    assert "draw()" in answer.text
    assert answer.headers["content-security-policy"] == "sandbox allow-scripts"
    assert client.get("/flights/reports/2013-06/drift.html").status_code == 404
    assert client.get("/flights/reports/2013-04/..%2f..%2fledger").status_code in (404, 422)


def test_a_broken_ledger_is_said_and_not_hidden(store: Store, client: TestClient) -> None:
    store.write("ledger/000001.json", b"{}")
    answer = client.get("/flights/")
    assert answer.status_code == 200 and "is not a ledger entry" in answer.text


def test_an_empty_store_is_no_error(tmp_path: Path, client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "store_of", lambda _: Store(url_of(tmp_path / "none")))
    assert "No interval has landed yet" in client.get("/flights/").text


def test_links_that_cannot_be_read_are_said_in_the_page(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRLOOP_LINKS", "MLflow=http://127.0.0.1:5000")
    answer = client.get("/flights/")
    assert answer.status_code == 200
    assert "AIRLOOP_LINKS=" in answer.text and "is not JSON of names and addresses" in answer.text


def test_what_mlflow_lacks_is_shown_while_it_lasts(store: Store) -> None:
    notices.say_once(store, 1, [2], {"gone 2": "v2 was deleted in MLflow"})
    assert "v2 was deleted in MLflow" in pages.templates.get_template("page.html").render(pages.overview(FLIGHTS))
    notices.say_once(store, 1, [], {})
    assert "MLflow differs" not in pages.templates.get_template("page.html").render(pages.overview(FLIGHTS))
