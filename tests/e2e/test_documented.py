"""README.md's commands for Airflow, as they are written, by the real `airflow` against a real Airflow."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from tasks.settings.environment import landing
from tests.docs.commands import split, written
from tests.docs.rules import STACK
from tests.waiting import until

from .loop import Loop

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

README = [command.text for command in written() if command.file == "README.md" and command.text.startswith(STACK)]
LANDINGS, TRIGGERS, BACKFILLS = ([text for text in README if text.startswith(begins)] for begins in STACK)
INTERVALS = ("2013-01", "2013-02", "2013-03", "2013-04", "2013-05", "2013-06")


def typed(command: str) -> None:
    """A command as a person types it in `airloop shell`."""
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


def test_what_is_typed_lands_intervals_and_has_them_taken_in_by_one_run(loop: Loop) -> None:
    """A run for each command: that of the later month waits for the other's."""
    for dag in ("flights.score", "flights.monitor", "flights.train", "flights.deploy"):
        loop.airflow.pause(dag)
    until(lambda: loop.airflow.knows("flights.ingest"), "the DAG", 300)
    assert LANDINGS
    for command in LANDINGS:
        typed(command)
    zone = landing()
    assert [interval for interval in INTERVALS if zone.exists(f"{interval}/manifest.json")] == list(INTERVALS[:4])
    spans = [run["conf"] for run in loop.airflow.runs("flights.ingest")]
    assert spans == [{"interval": "2013-04"}, {"interval": "2013-01", "through": "2013-04"}]
    (_, span) = loop.airflow.runs("flights.ingest")
    loop.follow("flights.ingest", span["dag_run_id"])
    assert [loop.landed(interval).interval for interval in INTERVALS[:4]] == list(INTERVALS[:4])


def test_what_is_typed_takes_many_intervals_in_one_after_the_other(loop: Loop) -> None:
    (command,) = BACKFILLS
    typed(command)
    runs = until(lambda: every_interval(loop), "a run for each interval of the backfill", 300)
    for run in runs[:2]:
        loop.follow("flights.ingest", run["dag_run_id"])
    first, second = (loop.landed(interval) for interval in INTERVALS[:2])
    assert (first.interval, second.interval) == INTERVALS[:2]


def every_interval(loop: Loop) -> list[dict[str, Any]]:
    """Runs of the backfill, oldest interval first, once there is one for each interval."""
    runs = [run for run in loop.airflow.runs("flights.ingest") if run["run_type"] == "backfill"]
    runs.sort(key=lambda run: run["logical_date"])
    return runs if [run["logical_date"][:7] for run in runs] == list(INTERVALS) else []


@pytest.mark.parametrize("command", TRIGGERS)
def test_what_is_typed_triggers_a_run(loop: Loop, command: str) -> None:
    """What such runs do is the story of test_loop.py: here the DAGs are paused."""
    ((_, _, _, dag, *_),) = split(command)
    loop.airflow.pause(dag)
    before = {run["dag_run_id"] for run in loop.airflow.runs(dag)}
    typed(command)
    (run,) = [run for run in loop.airflow.runs(dag) if run["dag_run_id"] not in before]
    assert run["run_type"] == "manual"
