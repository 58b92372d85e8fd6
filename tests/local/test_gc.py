"""airloop gc on one machine: the store's part, and what only this machine has; it says what it would do before it does anything."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from local import gc, kept, paths, postgres
from local.env import environment
from local.errors import LocalError
from tasks.retention.settings import Retention, retention
from tests.postgres import forget, run, started


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("AIRLOOP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AIRLOOP_HOME", str(tmp_path / "home"))
    retention.cache_clear()
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def log(home: Path, name: str, days: float) -> Path:
    path = home / "airflow/logs" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("words")
    os.utime(path, (time.time() - days * 86400,) * 2)
    return path


def test_old_logs_go_with_their_folders_when_asked(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    old, new = log(home, "dag_id=ingest/run_id=a/1.log", 31), log(home, "dag_id=ingest/run_id=b/1.log", 29)
    gc.gc(delete=False, names=False)
    assert old.exists()
    said = capfd.readouterr().out
    assert "logs of tasks                      1" in said and "Nothing" not in said.splitlines()[0]
    gc.gc(delete=True, names=False)
    assert not old.parent.exists() and new.exists()


def test_the_store_s_part_runs_in_this_home(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    workspace = home / "runs/train-2013-03-x"
    workspace.mkdir(parents=True)
    (workspace / "run.json").write_text("{}")
    for path in (workspace / "run.json", workspace):
        os.utime(path, (0, 0))
    gc.gc(delete=False, names=True)
    assert str(workspace) in capfd.readouterr().out
    gc.gc(delete=True, names=False)
    assert not workspace.exists()


def test_it_waits_for_no_backup(home: Path) -> None:
    with kept.alone(home), pytest.raises(LocalError, match="is at work"):
        gc.gc(delete=True, names=False)


def test_a_setting_that_is_wrong_is_said(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRLOOP_RETAIN_LOGS", "-1")
    retention.cache_clear()
    with pytest.raises(LocalError, match=r"AIRLOOP_RETAIN_LOGS='-1' is no number of days"):
        gc.gc(delete=False, names=False)
    retention.cache_clear()


def test_airflow_s_history_goes_and_what_is_young_or_named_stays(home: Path) -> None:
    """On the real database with the real command: a version of a DAG that a task still names must not stop it."""
    env = {**os.environ, **environment(), "PYTHONPATH": str(paths.ROOT)}
    with started(home):
        postgres.make_databases(home)
        for command in (
            [str(paths.scripts() / "airflow"), "db", "migrate"],
            [sys.executable, str(Path(__file__).with_name("past_runs.py"))],
        ):
            done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr[-2000:]
        assert gc._history(Retention(history=180), env, delete=False) == ""
        assert len(run(home, "SELECT run_id FROM dag_run", database="airflow")) == 3
        assert gc._history(Retention(history=180), env, delete=True) == ""
        for table in ("dag_run", "task_instance"):
            assert run(home, f"SELECT run_id FROM {table}", database="airflow") == [("1-days-ago",)], table
        assert run(home, "SELECT dag_id FROM dag_version", database="airflow") == [("ingest",)]
    forget(home)
