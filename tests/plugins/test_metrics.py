"""The pipeline's metrics: who may read them, and that they say what the store and Airflow's database say."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from airflow.models import DagRun, TaskInstance, import_all_models
from airflow.models.base import Base
from airflow.models.dag import DagModel, DagTag
from airflow.models.dagbundle import DagBundleModel
from airflow.models.pool import Pool
from airloop import metrics, metrics_of_airflow, metrics_of_store
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy.orm import Session

from tasks.common.artefacts import Store
from tasks.common.ledger import Evidence, Ledger

TOKEN = {"Authorization": "Bearer s3cret"}
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
EVIDENCE = Evidence(model="a" * 64, contract="b" * 64, gate=None, run="train-2013-03-x", data_through="2013-03")


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
        raise OSError("the store is away")

    def well(gauges: metrics.Gauges) -> None:
        gauges.add("airloop_live_version", "v", 3)

    monkeypatch.setattr(metrics, "pipeline", metrics.Pipeline({"store": broken, "airflow": well}))
    answer = client.get("/", headers=TOKEN)
    assert answer.status_code == 200
    samples = [s for family in text_string_to_metric_families(answer.text) for s in family.samples]
    assert {(s.name, *s.labels.values()): s.value for s in samples} == {
        ("airloop_live_version",): 3,
        ("airloop_source_readable", "store"): 0,
        ("airloop_source_readable", "airflow"): 1,
    }


def test_the_store_is_read_again_only_after_a_while() -> None:
    asked = []
    kept = metrics.Kept(lambda gauges: asked.append(1) or gauges.add("n", "n", len(asked)), 60)
    told = [metrics.Gauges() for _ in range(2)]
    for gauges in told:
        kept(gauges)
    assert [values(gauges) for gauges in told] == [{("n",): 1}] * 2


def test_months_gate_drift_and_ledger(tmp_path: Path) -> None:
    store = Store(tmp_path.as_uri())
    counts = {"counts": {"flights": {"landed": 10, "kept": 9, "quarantined": 1}}}
    monitored = {
        "champion": {"auc": {"value": 0.7}, "log_loss": {"value": 0.5}, "ece": {"value": 0.03}},
        "decision": {"champion": 1, "features": "f", "retrain": True, "outcome": "retrain", "reason": "ECE"},
        "quality": {"psi": {"carrier": 0.01, "hour": 0.3}}, "alarms": ["hour"], "audit": {"rollback": True, "sentence": "s"},
    }  # fmt: skip
    for month in ("2013-04", "2013-05"):
        store.write_json(f"landed/{month}.json", counts)
    store.write_json("predictions/2013-04/scored.json", {"status": "scored", "champion": 1, "features": "f"})
    store.write_json("reports/2013-04/monitor.json", monitored)
    gate = {"passed": False, "verdict": "keep champion", "failures": ["one", "two"], "promotion": {"d_log_loss": {"mean": 0.01, "lo": -0.01, "hi": 0.03}}}  # fmt: skip
    store.write_json("runs/train-2013-04-abc/gate.json", gate)
    Ledger(store).append(
        action="promote", to_version=7, effective_from="2013-04", who="w", why="y", evidence=EVIDENCE
    )  # fmt: skip
    gauges = metrics.Gauges()
    metrics_of_store.tell(store, gauges)
    found = values(gauges)
    assert found["airloop_live_version",] == 7
    assert found["airloop_months_pending",] == 1, "May has landed and is not scored"
    assert found["airloop_month_flights", "2013-05", "quarantined"] == 1
    assert found["airloop_month_quality", "2013-04", "auc"] == 0.7
    assert ("airloop_month_quality", "2013-05", "auc") not in found
    assert found["airloop_month_drift_psi", "2013-04", "hour"] == 0.3
    assert [v for k, v in found.items() if k[0] == "airloop_month_newest"] == [1]
    assert found["airloop_month_alarms", "2013-04"] == found["airloop_month_rollback_advised", "2013-04"] == 1
    assert found["airloop_gate_passed", "2013-04", "abc", "keep champion"] == 0
    assert found["airloop_gate_failures", "2013-04", "abc"] == 2
    assert found["airloop_gate_log_loss_gain", "2013-04", "abc", "lo"] == -0.01


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    """Airflow's tables, with our DAG `ingest` and somebody else's."""
    import_all_models()  # tables refer to each other
    engine = sa.create_engine(f"sqlite:///{tmp_path}/airflow.db")
    Base.metadata.create_all(engine)
    with Session(engine) as made:
        made.add(DagBundleModel(name="b"))
        made.add(Pool(pool="default_pool", slots=8, include_deferred=False))
        for dag, tag in (("ingest", "airloop"), ("theirs", "other")):
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
    add_run(session, "ingest", 1, "failed", 10)
    newest = add_run(session, "ingest", 2, "success", 90)
    add_task(session, "ingest", newest, "success", NOON, 60)
    waits = add_run(session, "ingest", 3, "running", 0)
    add_task(session, "ingest", waits, "queued", datetime.now(UTC), 0)
    add_run(session, "theirs", 1, "failed", 10)
    gauges = metrics.Gauges()
    metrics_of_airflow.tell(session, gauges)
    found = values(gauges)
    assert found["airloop_dag_runs", "ingest", "failed"] == 1
    assert found["airloop_dag_last_failed", "ingest"] == 0, "the newest that ended"
    assert found["airloop_dag_last_run_seconds", "ingest"] == 90
    assert found["airloop_dag_last_queued_seconds", "ingest"] == 5
    assert found["airloop_dag_last_success_timestamp_seconds", "ingest"] == NOON.timestamp() + 2 * 3600 + 90
    assert found["airloop_task_last_run_seconds", "ingest", "features"] == 60
    assert found["airloop_task_last_queued_seconds", "ingest", "features"] == 7
    assert found["airloop_task_last_tries", "ingest", "features"] == 2
    assert found["airloop_tasks_waiting",] == 1
    assert 7 <= found["airloop_tasks_waiting_seconds",] < 60
    assert found["airloop_pool_open_slots", "default_pool"] == 7
    assert not [key for key in found if "theirs" in key]
