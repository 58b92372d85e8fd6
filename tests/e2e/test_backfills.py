"""Fifty DAGs, a backfill each, asked for while the scheduler is at work and every core is busy: all are made.

Airflow refused some on SQLite: 503, "Backfill creation is not supported on SQLite under concurrent access".
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from local.airflow_api import Airflow
from tests.waiting import until

from .conftest import started

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

COUNT, DAYS = 50, 3
AT_ONCE = 4
DAGS = f"""
from datetime import datetime
from airflow.sdk import DAG
from airflow.providers.standard.operators.empty import EmptyOperator

for number in range({COUNT}):
    with DAG(f"dag_{{number}}", schedule="@daily", start_date=datetime(2013, 1, 1), catchup=False) as dag:
        EmptyOperator(task_id="first") >> EmptyOperator(task_id="second")
    globals()[dag.dag_id] = dag
"""
NAMES = [f"dag_{number}" for number in range(COUNT)]


@pytest.fixture
def airflow(tmp_path: Path) -> Iterator[Airflow]:
    """Airflow with the fifty DAGs."""
    (tmp_path / "code/plugins").mkdir(parents=True)
    (tmp_path / "code/dags").mkdir()
    (tmp_path / "code/dags/fifty.py").write_text(DAGS)
    with started(tmp_path / "home", {"AIRLOOP_CODE": str(tmp_path / "code")}) as loop:
        until(lambda: all(map(loop.airflow.knows, NAMES)), "the DAGs", seconds=600)
        yield loop.airflow


@pytest.fixture
def busy() -> Iterator[None]:
    """Every core computes."""
    with ExitStack() as stack:
        for _ in range(os.cpu_count() or 1):
            process = stack.enter_context(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
            stack.callback(process.kill)
        yield


def test_every_backfill_is_made(airflow: Airflow, busy: None) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda name: airflow.backfill(name, "2013-01-01", f"2013-01-0{DAYS}"), NAMES))
    for name in NAMES:
        runs = until(lambda name=name: ended(airflow, name), f"the backfill of {name}", seconds=600)
        assert [run["state"] for run in runs] == ["success"] * DAYS, name


def ended(airflow: Airflow, name: str) -> list[dict]:
    """The runs of a backfill that has come to its end; empty before."""
    runs = [run for run in airflow.runs(name) if run["run_type"] == "backfill"]
    return runs if len(runs) == DAYS and all(run["state"] in {"success", "failed"} for run in runs) else []
