from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tasks.core.urls import url_of

ROOT = Path(__file__).parents[2]
NAME = "dag_id=train/run_id=r/task_id=train/attempt=1.log"


@pytest.fixture
def logs(tmp_path: Path) -> Any:
    from airloop.task_logs import StoreLogs

    return StoreLogs(tmp_path / "logs", url_of(tmp_path / "store"))


def write(tmp_path: Path, text: str, name: str = NAME) -> None:
    path = tmp_path / "logs" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_log_outlives_the_worker_s_disk(logs: Any, tmp_path: Path) -> None:
    write(tmp_path, "one\n")
    logs.upload(NAME)
    (tmp_path / "logs" / NAME).unlink()
    assert logs.read(NAME, None) == ([url_of(tmp_path / "store" / NAME)], ["one\n"])


def test_a_deferred_task_s_second_half_is_added(logs: Any, tmp_path: Path) -> None:
    for text in ("one\n", "two\n"):
        write(tmp_path, text)
        logs.upload(tmp_path / "logs" / NAME)
    write(tmp_path, "waiting\n", f"{NAME}.trigger.7.log")
    logs.upload(f"{NAME}.trigger.7.log")
    write(tmp_path, "other\n", NAME.replace("attempt=1", "attempt=2"))
    logs.upload(NAME.replace("attempt=1", "attempt=2"))
    assert logs.read(NAME, None)[1] == ["one\ntwo\n", "waiting\n"]


def test_uploading_again_adds_nothing(logs: Any, tmp_path: Path) -> None:
    for text in ("one\n", "one\ntwo\n", "one\ntwo\n"):
        write(tmp_path, text)
        logs.upload(NAME)
    assert logs.read(NAME, None)[1] == ["one\ntwo\n"]


def test_no_log_is_no_error(logs: Any) -> None:
    assert logs.read(NAME, None) == ([], [])


def test_a_store_that_is_away_costs_the_log_and_not_the_task(logs: Any, tmp_path: Path, caplog: Any) -> None:
    (tmp_path / "store").write_text("no folder")
    write(tmp_path, "one\n")
    logs.upload(NAME)
    assert "could not be kept" in caplog.text


@pytest.mark.parametrize(
    "load",
    ["from airflow.sdk.log import load_remote_log_handler as load", "from airflow.logging_config import get_remote_task_log as load"],
    ids=["worker", "api-server"],
)  # fmt: skip
def test_airflow_finds_it(tmp_path: Path, load: str) -> None:
    """In a process of its own, set as kubernetes/airflow/values-base.yaml sets it."""
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(tmp_path / "logs"),
        "AIRFLOW__LOGGING__LOGGING_CONFIG_CLASS": "airloop.task_logs.LOGGING_CONFIG",
        "AIRFLOW__LOGGING__REMOTE_BASE_LOG_FOLDER": url_of(tmp_path / "store"),
    }
    write(tmp_path, "said\n")
    code = f"{load}; logs = load(); logs.upload({NAME!r}); print(logs.read({NAME!r}, None)[1], type(logs).__name__)"
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "['said\\n'] StoreLogs"
