"""Order and faults through real Airflow, one story: what is triggered waits for its turn, and what is killed is done again.

Ten faults hit runs at random moments. What they leave is what undisturbed processes make of the same intervals.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import psutil
import pytest

from local import supervise
from tests.waiting import until

from .conftest import started
from .loop import Loop

pytestmark = [pytest.mark.e2e, pytest.mark.story, pytest.mark.timeout(2400)]

SEED = int(os.environ.get("FAULTS_SEED", "20261126"))
DISTURBED = ("2013-08", "2013-09", "2013-10")
BY_HAND = ("2013-01", "2013-02", "2013-03")
HEARTBEAT = 30
"""Seconds without a heartbeat after which a task is given up, in this stack."""


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    """A stack that soon notices a task that is gone; only `ingest` runs by itself."""
    more = {"AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": str(HEARTBEAT)}
    with started(tmp_path_factory.mktemp("e2e") / "home", more) as loop:
        for dag in ("flights.score", "flights.monitor", "flights.train", "flights.deploy"):
            loop.airflow.pause(dag)
        yield loop


def test_three_intervals_triggered_at_once_land_one_after_the_other(loop: Loop) -> None:
    for interval in BY_HAND:
        loop.land(interval)
    runs = [loop.airflow.trigger("flights.ingest", {"interval": interval}) for interval in reversed(BY_HAND)]
    for run in runs:
        loop.follow("flights.ingest", run)
    for interval in BY_HAND:
        assert loop.landed(interval).interval == interval


def test_a_bad_interval_of_a_backfill_is_mended_and_cleared_although_others_wait(loop: Loop) -> None:
    """Two places, and more intervals behind the bad one than places: the waiting ones give theirs back."""
    bad, behind = "2013-04", ("2013-05", "2013-06", "2013-07")
    for interval in (bad, *behind):
        loop.land(interval)
    manifest = loop.home / "landing/flights" / bad / "manifest.json"
    good = manifest.read_bytes()
    manifest.write_text('{"interval": "2013-04"}')
    loop.airflow.backfill("flights.ingest", "2013-04-01", "2013-07-31", max_active_runs=2)
    run_id = until(lambda: _failed(loop, bad), f"{bad} fails", 300)
    manifest.write_bytes(good)
    loop.airflow.clear("flights.ingest", run_id)
    for interval in (bad, *behind):
        until(lambda interval=interval: loop.store.exists(f"landed/{interval}.json"), f"{interval} lands", 900)


def test_a_corrected_interval_takes_the_next_along(loop: Loop) -> None:
    """Half of the rows were there twice, say: the rates of the next interval's first days change."""
    before = loop.landed("2013-02")
    loop.land("2013-01", lambda flights: flights.iloc[::2])
    loop.run("flights.ingest", {"interval": "2013-01"})
    until(lambda: loop.landed("2013-02").features != before.features, "2013-02 is made again", 600)


def _failed(loop: Loop, interval: str) -> str:
    runs = [run for run in loop.airflow.runs("flights.ingest") if run["state"] == "failed"]
    return next((str(run["dag_run_id"]) for run in runs if (run["logical_date"] or "").startswith(interval)), "")


Fault = Callable[[Loop], None]


def _running() -> psutil.Process | None:
    """The process that guards a stage or job at work: it leads the group of all of it."""
    home = os.environ["AIRLOOP_HOME"]
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if "tasks.running" in process.cmdline() and process.environ().get("AIRLOOP_HOME") == home:
                return psutil.Process(os.getpgid(process.pid))
    return None


def kill_stage(_: Loop) -> None:
    """SIGKILL to all of the stage's processes."""
    if process := _running():
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def kill_task(_: Loop) -> None:
    """SIGKILL to Airflow's own process of the task; the stage goes with it."""
    if (process := _running()) and (task := process.parent()):
        task.kill()


def stop_task(_: Loop) -> None:
    """SIGSTOP to the task's supervisor, its process and the stage for longer than a heartbeat may take, then SIGCONT."""
    if not ((process := _running()) and (task := process.parent()) and (supervisor := task.parent())):
        return
    stopped = [supervisor, task, process, *process.children(recursive=True)]
    _each(stopped, psutil.Process.suspend)
    time.sleep(2 * HEARTBEAT)
    _each(stopped, psutil.Process.resume)


def _each(processes: list[psutil.Process], action: Callable[[psutil.Process], None]) -> None:
    for process in processes:
        with suppress(psutil.Error):
            action(process)


def _kill_service(name: str) -> Fault:
    def kill(loop: Loop) -> None:
        pid = (supervise.states(loop.home) or {}).get(name, {}).get("pid")
        if pid:
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)

    return kill


FAULTS: list[tuple[str, Fault]] = [
    ("SIGKILL of the stage", kill_stage),
    ("SIGKILL of the task", kill_task),
    ("SIGSTOP of the supervisor", stop_task),
    ("SIGKILL of the scheduler", _kill_service("airflow-scheduler")),
    ("SIGKILL of the API server", _kill_service("airflow-api")),
    ("SIGKILL of the database", _kill_service("postgres")),
    ("SIGKILL of MLflow", _kill_service("mlflow")),
    ("SIGKILL of the online service", _kill_service("online")),
    ("SIGKILL of the stage, again", kill_stage),
    ("SIGKILL of the triggerer", _kill_service("airflow-triggerer")),
]


def test_ten_faults_at_random_moments_leave_what_an_undisturbed_run_leaves(loop: Loop) -> None:
    moments = random.Random(SEED)
    faults = FAULTS.copy()
    moments.shuffle(faults)
    table = []
    for interval, count in zip(DISTURBED, (4, 3, 3), strict=True):
        loop.land(interval)
        run = loop.airflow.trigger("flights.ingest", {"interval": interval})
        for name, fault in [faults.pop() for _ in range(count)]:
            table.append(f"| {name} | {_disturb(loop, run, fault, moments.uniform(0, 3)):.1f} |")
        until(lambda run=run: _ended(loop, run), "the run ends", 900)  # the API server may still be on its way back
        loop.follow("flights.ingest", run)
    print("\n".join(["| fault | seconds until a stage works again |", "|---|---|", *table]))
    assert not loop.ledger(), "nothing that no gate has seen is live"

    disturbed = [loop.landed(interval) for interval in DISTURBED]
    for folder in ("runs", "cache"):  # or the results would be known
        shutil.rmtree(loop.home / folder)
    for interval, record in zip(DISTURBED, disturbed, strict=True):
        loop.run("flights.ingest", {"interval": interval})
        again = loop.landed(interval)
        assert (again.manifest, again.lock, again.state) == (record.manifest, record.lock, record.state)


def _disturb(loop: Loop, run: str, fault: Fault, delay: float) -> float:
    """Let ``fault`` happen some seconds after a stage was seen at work; returns the seconds until one is at work again."""
    until(lambda: _running() or _ended(loop, run), "a stage works", 300)
    time.sleep(delay)
    fault(loop)
    began = time.monotonic()
    until(lambda: _running() or _ended(loop, run), "a stage works again", 300)
    return time.monotonic() - began


def _ended(loop: Loop, run: str) -> bool:
    with suppress(Exception):  # the API server itself may have been killed
        return next(r for r in loop.airflow.runs("flights.ingest") if r["dag_run_id"] == run)["state"] in {
            "success",
            "failed",
        }
    return False
