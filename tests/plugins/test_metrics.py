"""The pipeline's metrics: who may read them, and that they say what the store and Airflow's database say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa
from airflow.models import DagRun, TaskInstance, import_all_models
from airflow.models.base import Base
from airflow.models.dag import DagModel, DagTag
from airflow.models.dagbundle import DagBundleModel
from airflow.models.pool import Pool
from airloop import metrics, metrics_of_airflow, metrics_of_store, pages
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy.orm import Session

from tasks.core.errors import ConfigError
from tasks.core.urls import url_of
from tasks.registry.ledger import Ledger
from tasks.storage.artefacts import Store
from tests.airflow_dags import checkout
from tests.airflow_home import ROOT
from tests.plugins.conftest import EVIDENCE, FLIGHTS, land

TOKEN = {"Authorization": "Bearer s3cret"}
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def values(gauges: metrics.Gauges) -> dict[tuple[str, ...], float]:
    """Name and label values to value."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in gauges.families()
        for sample in family.samples
    }


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> TestClient:
    monkeypatch.setenv("AIRLOOP_METRICS_TOKEN", "s3cret")
    return TestClient(metrics.app)


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer guess"}, {"Authorization": "s3cret"}])
def test_nobody_reads_them_without_the_token(client: TestClient, headers: dict[str, str]) -> None:
    assert client.get("/", headers=headers).status_code == 403


def test_where_no_token_is_set_nobody_reads_them(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRLOOP_METRICS_TOKEN")
    assert client.get("/", headers={"Authorization": "Bearer "}).status_code == 403


def test_a_source_that_cannot_be_read_says_so_and_hides_no_other(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(gauges: metrics.Gauges) -> None:
        gauges.add("airloop_live_version", "v", 1, model="one")
        raise OSError("the store is away")

    def well(name: str, gauges: metrics.Gauges) -> None:
        gauges.add("airloop_live_version", "v", 3, model=name)

    sources = [
        ("store", "one", broken),
        ("store", "two", partial(well, "two")),
        ("store", "three", partial(well, "three")),
    ]
    monkeypatch.setattr(metrics, "pipeline", metrics.Pipeline(lambda: sources))
    answer = client.get("/", headers=TOKEN)
    assert answer.status_code == 200
    assert answer.text.count("# HELP airloop_live_version") == 1, "Prometheus refuses a family that appears twice"
    samples = [s for family in text_string_to_metric_families(answer.text) for s in family.samples]
    assert {(s.name, *s.labels.values()): s.value for s in samples} == {
        ("airloop_live_version", "two"): 3,
        ("airloop_live_version", "three"): 3,
        ("airloop_source_readable", "one", "store"): 0,
        ("airloop_source_readable", "two", "store"): 1,
        ("airloop_source_readable", "three", "store"): 1,
    }


def test_each_model_is_a_source_and_one_whose_spec_is_broken_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = json.loads((ROOT / "models/flights/spec.json").read_text())
    monkeypatch.setenv("AIRLOOP_CODE", str(checkout(tmp_path, {"broken": "{", "flights": spec})))
    sources = {(source, model): read for source, model, read in metrics._sources()}
    assert set(sources) == {("airflow", ""), ("spec", "broken"), ("store", "flights")}
    with pytest.raises(ConfigError, match=r"models/broken/spec\.json"):
        sources["spec", "broken"](metrics.Gauges())


def test_the_store_is_read_again_only_after_a_while() -> None:
    asked = []
    kept = metrics.CachedSource(lambda gauges: asked.append(1) or gauges.add("n", "n", len(asked)), 60)
    told = [metrics.Gauges() for _ in range(2)]
    for gauges in told:
        kept(gauges)
    assert [values(gauges) for gauges in told] == [{("n",): 1}] * 2


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """That of flights, with nothing in it."""
    made = Store(url_of(tmp_path))
    for module in (pages, metrics_of_store):
        monkeypatch.setattr(module, "store_of", {"flights": made}.__getitem__)
    return made


def test_of_many_candidates_the_newest_are_told(store: Store) -> None:
    """Each is a read of the store at each scrape, and there are more every interval."""
    for year in range(2013, 2020):
        for interval in range(1, 13):
            gate = {"passed": True, "verdict": "promote", "failures": []}
            store.write_json(f"runs/flights-train-{year}-{interval:02d}-abc/gate.json", gate)
    gauges = metrics.Gauges()
    metrics_of_store.collect(FLIGHTS, gauges)
    told = sorted(key[2] for key in values(gauges) if key[0] == "airloop_gate_passed")
    assert (len(told), told[-1]) == (metrics_of_store.GATES, "2019-12")


def test_intervals_gate_drift_and_ledger(store: Store) -> None:
    counts = {"payments": {"landed": 10, "kept": 9, "quarantined": 1}, "reasons": {"an amount is missing": 1}}
    monitored = {
        "champion": {"auc": {"value": 0.7}, "log_loss": {"value": 0.5}, "ece": {"value": 0.03}},
        "decision": {"champion": 1, "features": "f", "retrain": True, "outcome": "retrain", "reason": "ECE"},
        "quality": {"psi": {"carrier": 0.01, "hour": 0.3}}, "alarms": ["hour"], "audit": {"rollback": True, "sentence": "s"},
    }  # fmt: skip
    for interval in ("2013-04", "2013-05"):
        land(store, interval, counts)
    store.write_json("predictions/2013-04/scored.json", {"status": "scored", "champion": 1, "features": "f"})
    store.write_json("reports/2013-04/monitor.json", monitored)
    gate = {"passed": False, "verdict": "keep champion", "failures": ["one", "two"], "promotion": {"d_log_loss": {"mean": 0.01, "lo": -0.01, "hi": 0.03}}}  # fmt: skip
    store.write_json("runs/flights-train-2013-04-abc/gate.json", gate)
    Ledger(store).append(
        expect=0, action="promote", to_version=7, effective_from="2013-04", who="w", why="y", evidence=EVIDENCE
    )  # fmt: skip
    gauges = metrics.Gauges()
    metrics_of_store.collect(FLIGHTS, gauges)
    found = values(gauges)
    assert found["airloop_live_version", "flights"] == 7
    assert found["airloop_intervals_pending", "flights"] == 1, "May has landed and is not scored"
    assert found["airloop_interval_rows", "flights", "2013-05", "payments", "quarantined"] == 1
    assert found["airloop_interval_quality", "flights", "2013-04", "auc"] == 0.7
    assert ("airloop_interval_quality", "flights", "2013-05", "auc") not in found
    assert found["airloop_interval_drift_psi", "flights", "2013-04", "hour"] == 0.3
    assert [v for k, v in found.items() if k[0] == "airloop_interval_newest"] == [1]
    assert (
        found["airloop_interval_alarms", "flights", "2013-04"]
        == found["airloop_interval_rollback_advised", "flights", "2013-04"]
        == 1
    )
    assert found["airloop_gate_passed", "flights", "2013-04", "abc", "keep champion"] == 0
    assert found["airloop_gate_failures", "flights", "2013-04", "abc"] == 2
    assert found["airloop_gate_log_loss_gain", "flights", "2013-04", "abc", "lo"] == -0.01


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    """Airflow's tables, with our DAG `flights.ingest` and somebody else's."""
    import_all_models()  # tables refer to each other
    engine = sa.create_engine(f"sqlite:///{tmp_path}/airflow.db")
    Base.metadata.create_all(engine)
    with Session(engine) as made:
        made.add(DagBundleModel(name="b"))
        made.add(Pool(pool="default_pool", slots=8, include_deferred=False))
        for dag, tag in (("flights.ingest", "airloop"), ("idle.ingest", "airloop"), ("theirs", "other")):
            made.add(DagModel(dag_id=dag, bundle_name="b", tags=[DagTag(name=tag, dag_id=dag)]))
        made.flush()
        yield made
    engine.dispose()


def add_run(session: Session, dag: str, number: int, state: str, seconds: int) -> str:
    run_id = f"{dag}-{number}"
    begin = NOON + timedelta(hours=number)
    run = {
        "dag_id": dag, "run_id": run_id, "state": state, "run_type": "manual", "queued_at": begin - timedelta(seconds=5),
        "start_date": begin, "end_date": begin + timedelta(seconds=seconds) if seconds else None, "clear_number": 0,
        "run_after": begin,
    }  # fmt: skip
    session.execute(sa.insert(DagRun.__table__).values(**run))
    return run_id


def add_task(session: Session, dag: str, run_id: str, state: str, begin: datetime, seconds: int) -> None:
    import uuid

    session.execute(sa.insert(TaskInstance.__table__).values(
        id=uuid.uuid4(), dag_id=dag, run_id=run_id, task_id="features", state=state, try_number=2, max_tries=2, pool="default_pool",
        pool_slots=1, map_index=-1, hostname="h", unixname="u", operator="o", priority_weight=1, queue="default",
        scheduled_dttm=begin - timedelta(seconds=7), start_date=begin if seconds else None,
        end_date=begin + timedelta(seconds=seconds) if seconds else None,
    ))  # fmt: skip


def test_runs_and_tasks_of_ours(session: Session) -> None:
    add_run(session, "flights.ingest", 1, "failed", 10)
    newest = add_run(session, "flights.ingest", 2, "success", 90)
    add_task(session, "flights.ingest", newest, "success", NOON, 60)
    waits = add_run(session, "flights.ingest", 3, "running", 0)
    add_task(session, "flights.ingest", waits, "queued", datetime.now(UTC), 0)
    add_run(session, "theirs", 1, "failed", 10)
    gauges = metrics.Gauges()
    metrics_of_airflow.collect(session, gauges)
    found = values(gauges)
    assert found["airloop_dag_runs", "flights", "flights.ingest", "failed"] == 1
    assert found["airloop_dag_last_failed", "flights", "flights.ingest"] == 0, "the newest that ended"
    assert found["airloop_dag_last_run_seconds", "flights", "flights.ingest"] == 90
    assert found["airloop_dag_last_queued_seconds", "flights", "flights.ingest"] == 5
    assert (
        found["airloop_dag_last_success_timestamp_seconds", "flights", "flights.ingest"]
        == NOON.timestamp() + 2 * 3600 + 90
    )
    assert found["airloop_task_last_run_seconds", "flights", "flights.ingest", "features"] == 60
    assert found["airloop_task_last_queued_seconds", "flights", "flights.ingest", "features"] == 7
    assert found["airloop_task_last_tries", "flights", "flights.ingest", "features"] == 2
    assert found["airloop_tasks_waiting", "flights"] == 1
    assert found["airloop_tasks_waiting", "idle"] == found["airloop_tasks_waiting_seconds", "idle"] == 0
    assert 7 <= found["airloop_tasks_waiting_seconds", "flights"] < 60
    assert found["airloop_pool_open_slots", "default_pool"] == 7
    assert not [key for key in found if "theirs" in key]
