"""Airflow's own share of a run: the ingest DAG for a month whose stages all come from the cache, under a real Airflow.

The same commands are run by hand too; what the run took longer is Airflow: scheduling, a worker and a parse of the DAG
file for each task.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import count

from bench.frame import Row
from bench.home import LAST, Home, forget
from bench.online import free_port

CACHED = (("stage", "manifest", "ingest"), ("stage", "validate"), ("prepare", "features"), ("act", "publish"))
"""What the four tasks of the ingest DAG call when nothing is to be done."""
_turns = count(1)


def measure(home: Home, repeats: int) -> list[Row]:
    """The run, its commands by hand, and the difference."""
    with _stack():
        from local.airflow_api import Airflow

        airflow = Airflow()
        _wait(lambda: airflow.knows("ingest") and airflow.knows("score"), 180)
        # What a landing sets off would run beside the next repeat; the client's users have no need to pause a DAG.
        airflow._call("PATCH", "/dags/score", json={"is_paused": True})  # noqa: SLF001
        airflow.wait("ingest", airflow.trigger("ingest", {"month": LAST}))  # first: every worker imports anew
        runs, tasks = [], []
        for _ in range(repeats):
            run_id = airflow.trigger("ingest", {"month": LAST})
            run = airflow.wait("ingest", run_id)
            if run["state"] != "success":
                raise RuntimeError(f"the ingest run {run_id} ended as {run['state']}")
            runs.append(_seconds(run))
            tasks.append(sum(_seconds(task) for task in airflow.tasks("ingest", run_id).values()))
        # Beside the idle services, as in the run.
        hands = [_by_hand(home) for _ in range(repeats)]
    hand = statistics.median(hands)
    number = len(CACHED)
    return [
        Row("ingest run, all cached", "s", tuple(runs), f"{number} tasks, from its start to its end"),
        Row("its tasks", "s", tuple(tasks), "sum of their times"),
        Row("the same commands by hand", "s", tuple(hands)),
        Row("Airflow's own share", "s", tuple(r - hand for r in runs), "run less commands"),
        Row("Airflow's own share a task", "s", tuple((r - hand) / number for r in runs)),
    ]


def _by_hand(home: Home) -> float:
    key = f"hand-{next(_turns)}"
    try:
        return sum(home.call(action, names, "ingest", key, LAST).seconds for action, *names in CACHED)
    finally:
        forget(home.workspace(key))


@contextmanager
def _stack() -> Iterator[None]:
    """This home's services, on free ports; stopped, and the home kept, at the end."""
    from local import stack
    from local.env import environment
    from tasks.common.environment import environment as tasks_environment

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
        stack.down(keep=True)
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
