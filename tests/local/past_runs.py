"""Run with the environment of a home whose database is migrated: a DAG with runs of 400, 300 and 1 days ago."""

from __future__ import annotations

import datetime as dt

from airflow.models import DagRun, TaskInstance
from airflow.models.dag import DagModel
from airflow.models.dag_version import DagVersion
from airflow.models.dagbundle import DagBundleModel
from airflow.models.serialized_dag import SerializedDagModel
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG
from airflow.serialization.serialized_objects import DagSerialization, LazyDeserializedDAG
from airflow.utils.session import create_session
from airflow.utils.types import DagRunTriggeredByType, DagRunType

NOW = dt.datetime.now(dt.UTC)

with DAG("ingest", schedule=None, start_date=dt.datetime(2020, 1, 1, tzinfo=dt.UTC)) as dag:
    EmptyOperator(task_id="t")

with create_session() as session:
    session.add(DagBundleModel(name="bundle"))
    session.flush()
    session.add(DagModel(dag_id="ingest", bundle_name="bundle", is_paused=False))
    session.flush()
    SerializedDagModel.write_dag(LazyDeserializedDAG.from_dag(dag), bundle_name="bundle", session=session)
    session.flush()
    version = DagVersion.get_latest_version("ingest", session=session)
    task = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag)).get_task("t")
    for days in (400, 300, 1):
        at = NOW - dt.timedelta(days=days)
        run = DagRun(
            dag_id="ingest", run_id=f"{days}-days-ago", logical_date=at, start_date=at, run_after=at, data_interval=(at, at),
            run_type=DagRunType.SCHEDULED, state="success", triggered_by=DagRunTriggeredByType.TEST,
        )  # fmt: skip
        run.created_dag_version_id = version.id
        session.add(run)
        session.flush()
        done = TaskInstance(task, run_id=run.run_id, dag_version_id=version.id, state="success")
        done.start_date = at
        session.add(done)
    version.created_at = NOW - dt.timedelta(days=401)
