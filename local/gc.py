"""`airloop gc`: what nothing needs any more on this machine: tasks/gc.py's part, Airflow's logs and history, MLflow's deleted runs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from local import kept, stack
from local.env import environment, place
from local.errors import LocalError
from local.paths import ROOT, scripts
from local.services import services
from tasks.core.errors import AirloopError
from tasks.retention.garbage import DAY, of_files
from tasks.retention.settings import Retention, retention

HISTORY = (
    "dag_run,task_instance,task_instance_history,task_reschedule,xcom,log,job,import_error,asset_event,callback,trigger,deadline,"
    "dag_version"
)
"""Tables of Airflow's database that grow with its runs; what a DAG is, and whether it is paused, stays."""


def gc(*, delete: bool, names: bool) -> None:
    """Say what may go, and with ``delete``, delete it.

    Raises:
        LocalError: a part could not be looked at, or cleaned up; the others were.
    """
    home = place().home
    env = {**os.environ, **environment()}
    try:
        keep = retention()
    except AirloopError as error:
        raise LocalError(str(error)) from None
    with kept.alone(home):
        options = [*(["--delete"] if delete else []), *(["--names"] if names else [])]
        failed = [_run([sys.executable, "-m", "tasks.gc", *options], env, "the store's clean-up")]
        _logs(home, keep, delete=delete)
        if stack.running(home):
            failed.append(_history(keep, env, delete=delete))
            failed += [_forget(env, keep)] if delete else []
        else:
            print("  Airflow's and MLflow's databases are looked at only while they run: `airloop up` first.")
    if problems := [problem for problem in failed if problem]:
        raise LocalError(" ".join(problems))


def _logs(home: Path, keep: Retention, *, delete: bool) -> None:
    folder = home / "airflow" / "logs"
    old = list(of_files("logs", folder, time.time() - max(keep.logs, keep.grace) * DAY))
    print(f"  {'logs of tasks':<28}{len(old):>8,}{sum(item.bytes for item in old) / 1e6:12,.1f} MB", flush=True)
    if not delete:
        return
    for item in old:
        item.delete()
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def _history(keep: Retention, env: dict[str, str], *, delete: bool) -> str:
    before = (datetime.now(UTC) - timedelta(days=max(keep.history, keep.grace))).isoformat(timespec="seconds")
    how = ["--yes", "--skip-archive", "--error-on-cleanup-failure"] if delete else ["--dry-run"]
    command = [str(scripts() / "airflow"), "db", "clean", "--tables", HISTORY, "--clean-before-timestamp", before, *how]
    print(f"  Airflow's history before {before[:10]}: {'deleting' if delete else 'looking'}", flush=True)
    return _run(command, env, "`airflow db clean`")


def _forget(env: dict[str, str], keep: Retention) -> str:
    """Delete for good what was deleted in MLflow, with its files; what a registered model came from is brought back first."""
    from tasks.retention import tracked
    from tasks.settings.environment import environment as tasks_environment
    from tasks.storage.artefacts import Store

    os.environ.update(env)
    tasks_environment.cache_clear()
    try:
        tracked.bring_back(Store(env["AIRLOOP_STORE"]))
    except AirloopError as error:
        return str(error)
    # Without the files' address it would forget the runs and leave their files.
    command = [str(scripts() / "mlflow"), "gc", "--backend-store-uri", _backend()]
    return _run([*command, "--older-than", f"{keep.grace:g}d"], env, "`mlflow gc`")


def _backend() -> str:
    """The database that MLflow's server is started with."""
    words = next(service.command for service in services(place()) if service.name == "mlflow")
    return words[words.index("--backend-store-uri") + 1]


def _run(command: list[str], env: dict[str, str], what: str) -> str:
    """Run it with its output shown; returns what went wrong, empty when nothing."""
    done = subprocess.run(command, env=env, cwd=ROOT, check=False)
    return f"{what} failed; its message is above." if done.returncode else ""
