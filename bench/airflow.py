"""Airflow's own share of a run: the ingest DAG for an interval whose stages all come from the cache, under a real Airflow.

The commands that its tasks start are timed while the run goes on; the rest of the run is Airflow: scheduling, and a
worker's start and a parse of the DAG file for each task.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import psutil

from bench.frame import Row
from bench.home import LAST, Home
from bench.online import free_port
from tasks.settings.environment import environment

COMMAND = "tasks.running"
TASKS = 4
LOOK_SECONDS = 0.1
INGEST, SCORE = (f"{environment().model}.{dag}" for dag in ("ingest", "score"))


def measure(home: Home, repeats: int) -> list[Row]:
    """The run, its commands by hand, and the difference."""
    with _stack():
        from local.airflow_api import Airflow

        airflow = Airflow()
        _wait(lambda: airflow.knows(INGEST) and airflow.knows(SCORE), 180)
        # What a landing sets off would run beside the next repeat.
        airflow.pause(SCORE)
        airflow.wait(INGEST, airflow.trigger(INGEST, {"interval": LAST}))  # a warm-up: the first run imports everything
        runs, commands = [], []
        for _ in range(repeats):
            with _commands(home.folder) as seen:
                run_id = airflow.trigger(INGEST, {"interval": LAST})
                run = airflow.wait(INGEST, run_id)
            if run["state"] != "success" or len(seen) < TASKS:
                raise RuntimeError(f"the ingest run {run_id} ended as {run['state']}, with {len(seen)} commands")
            runs.append(_seconds(run))
            commands.append(sum(seen.values()))
    shares = [run - command for run, command in zip(runs, commands, strict=True)]
    return [
        Row("ingest run, all cached", "s", tuple(runs), f"{TASKS} tasks, from its start to its end"),
        Row(
            "its commands",
            "s",
            tuple(commands),
            f"sum of the processes that its tasks started, each seen within {LOOK_SECONDS} s",
        ),
        Row("Airflow's own share", "s", tuple(shares), "the rest"),
        Row("Airflow's own share a task", "s", tuple(share / TASKS for share in shares)),
    ]


@contextmanager
def _commands(folder: Path) -> Iterator[dict[int, float]]:
    """Process id to seconds of each command that tasks of this home start meanwhile; whole when the context has ended."""
    seconds: dict[int, float] = {}
    watchers: dict[int, threading.Thread] = {}
    over = threading.Event()

    def watch(process: psutil.Process, begun: float) -> None:
        process.wait()
        seconds[process.pid] = time.monotonic() - begun

    def look() -> None:
        while not over.wait(LOOK_SECONDS):
            for process in psutil.process_iter():
                if process.pid not in watchers and _is_command(process, folder):
                    # Not its create_time, which rests on a boot time in whole seconds.
                    watchers[process.pid] = threading.Thread(target=watch, args=(process, time.monotonic()))
                    watchers[process.pid].start()

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield seconds
    finally:
        over.set()
        for thread in (looking, *watchers.values()):
            thread.join()


def _is_command(process: psutil.Process, folder: Path) -> bool:
    try:
        # A guard is above each command and ends with it; only one of the two is to be counted.
        return process.cmdline()[1:3] == ["-m", COMMAND] and process.environ().get("AIRLOOP_HOME") == str(folder)
    except psutil.Error:
        return False


@contextmanager
def _stack() -> Iterator[None]:
    """This home's services, on free ports; stopped, and the home kept, at the end."""
    from local import stack
    from local.env import environment
    from tasks.settings.environment import environment as tasks_environment

    before = dict(os.environ)
    for name in ("AIRFLOW", "MLFLOW", "ONLINE"):
        os.environ[f"AIRLOOP_{name}_PORT"] = str(free_port())
    del os.environ["AIRLOOP_ONLINE_URL"]
    os.environ.update(environment())
    tasks_environment.cache_clear()
    try:
        stack.up()
        yield
    finally:
        stack.down()
        os.environ.clear()
        os.environ.update(before)
        tasks_environment.cache_clear()


def _seconds(record: dict[str, str]) -> float:
    return (datetime.fromisoformat(record["end_date"]) - datetime.fromisoformat(record["start_date"])).total_seconds()


def _wait(ready: object, seconds: float) -> None:
    assert callable(ready)
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise RuntimeError(f"Airflow has not read its DAGs after {seconds:.0f} s")
        time.sleep(0.5)
