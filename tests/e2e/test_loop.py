"""The whole loop through real DAG runs, one story in order: each test starts where the one before ended.

Nothing about an interval is scripted: April is landed with delays that no model of the winter can know, and what follows
follows from the labels.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time

import httpx
import pandas as pd
import psutil
import pytest

from tasks.online import prediction_log
from tasks.settings.environment import environment
from tests.waiting import until

from .loop import Loop

pytestmark = [pytest.mark.e2e, pytest.mark.story, pytest.mark.timeout(1800)]  # a busy machine takes its time

WARM_UP = ("2013-01", "2013-02", "2013-03")
AGAIN = WARM_UP[:2]
"""Backfilled twice; February's features look back on January."""


def later_afternoons(flights: pd.DataFrame) -> pd.DataFrame:
    """Another April: whoever leaves after noon arrives 40 minutes later."""
    delay = pd.to_numeric(flights["arr_delay"], errors="coerce")
    afternoon = pd.to_numeric(flights["hour"]) >= 12
    moved = (delay + 40).where(afternoon, delay)
    return flights.assign(arr_delay=moved.map(lambda d: "NA" if pd.isna(d) else str(int(d))))


def test_a_backfill_of_the_warm_up_makes_the_first_champion(loop: Loop) -> None:
    for interval in WARM_UP:
        loop.land(interval)
    loop.airflow.backfill("flights.ingest", "2013-01-01", "2013-03-31")
    for interval in WARM_UP:
        loop.follow("flights.score", loop.started("flights.score", interval, seconds=900))
        tasks = loop.follow("flights.monitor", loop.started("flights.monitor", interval))
        wants = "success" if interval == WARM_UP[-1] else "skipped"
        assert tasks["request_retrain"]["state"] == wants, interval
    tasks = loop.follow("flights.train", loop.started("flights.train", "2013-03"))
    assert tasks["register"]["state"] == "success"
    loop.follow("flights.deploy", loop.started("flights.deploy", "2013-03"))

    (entry,) = loop.ledger()
    assert (entry.action, entry.to_version, entry.effective_from) == ("promote", 1, "2013-04")
    assert loop.aliases() == {"champion": "1"}
    assert loop.online()["model_version"] == 1


def test_the_same_backfill_again_leaves_the_same_digests_and_asks_for_nothing(loop: Loop) -> None:
    """Manifest, every stage's entry in dvc.lock, state: made anew, since workspaces and cache are gone."""
    before = [loop.landed(interval) for interval in AGAIN]
    done = {dag: len(loop.airflow.runs(dag)) for dag in ("flights.monitor", "flights.train")}
    for folder in ("runs", "cache"):
        shutil.rmtree(loop.home / folder)
    loop.airflow.backfill("flights.ingest", "2013-01-01", "2013-02-28")
    for interval in AGAIN:
        loop.follow("flights.score", loop.started("flights.score", interval, nth=2, seconds=900))
        loop.follow("flights.monitor", loop.started("flights.monitor", interval, nth=2))
    after = [loop.landed(interval) for interval in AGAIN]
    for old, new in zip(before, after, strict=True):
        assert (new.manifest, new.lock, new.state) == (old.manifest, old.lock, old.state)
    assert len(loop.airflow.runs("flights.monitor")) == done["flights.monitor"] + len(AGAIN)
    assert len(loop.airflow.runs("flights.train")) == done["flights.train"]


def test_an_interval_that_goes_wrong_triggers_and_its_challenger_is_promoted(loop: Loop) -> None:
    loop.land("2013-04", later_afternoons)
    loop.run("flights.ingest", {"interval": "2013-04"})
    loop.follow("flights.score", loop.started("flights.score", "2013-04"))
    tasks = loop.follow("flights.monitor", loop.started("flights.monitor", "2013-04"))
    assert tasks["request_retrain"]["state"] == "success"
    scored = loop.store.read_json("predictions/2013-04/scored.json")
    assert scored["champion"] == 1
    tasks = loop.follow("flights.train", loop.started("flights.train", "2013-04"))
    assert tasks["register"]["state"] == "success"
    loop.follow("flights.deploy", loop.started("flights.deploy", "2013-04"))

    assert [(e.to_version, e.effective_from) for e in loop.ledger()] == [(1, "2013-04"), (2, "2013-05")]
    assert loop.aliases() == {"champion": "2", "previous": "1"}
    assert loop.online()["model_version"] == 2


def test_a_worse_challenger_is_refused_and_the_champion_stays(loop: Loop) -> None:
    before = (loop.ledger(), loop.aliases(), loop.online()["model_version"])
    tasks = loop.run("flights.train", {"interval": "2013-04", "overrides": {"train.xgboost.rounds": 3}})
    assert tasks["register"]["state"] == "skipped"
    run_id = loop.airflow.runs("flights.train")[-1]["dag_run_id"]
    assert "gate says" in loop.airflow.log("flights.train", run_id, "register", 1)
    assert (loop.ledger(), loop.aliases(), loop.online()["model_version"]) == before


def test_the_same_interval_again_changes_no_digest_and_asks_for_nothing(loop: Loop) -> None:
    before = loop.landed("2013-04")
    predictions = {name: loop.store.read(name) for name in loop.store.names("predictions/2013-04")}
    trainings = len(loop.airflow.runs("flights.train"))
    loop.run("flights.ingest", {"interval": "2013-04"})
    loop.follow("flights.score", loop.started("flights.score", "2013-04", nth=2))
    tasks = loop.follow("flights.monitor", loop.started("flights.monitor", "2013-04", nth=2))

    after = loop.landed("2013-04")
    assert (after.features, after.manifest, after.state) == (before.features, before.manifest, before.state)
    assert {name: loop.store.read(name) for name in loop.store.names("predictions/2013-04")} == predictions
    assert tasks["request_retrain"]["state"] == "skipped"
    assert len(loop.airflow.runs("flights.train")) == trainings


def test_a_killed_training_is_tried_again_and_goes_on_from_its_checkpoint(loop: Loop) -> None:
    """SIGKILL to the process that trains, while Airflow runs; the rounds make the run one that no cache knows."""
    often = {"train.xgboost.rounds": 399, "train.xgboost.segment_rounds": 10, "train.checkpoint.steps": 10}
    run_id = loop.airflow.trigger("flights.train", {"interval": "2013-04", "overrides": often})
    victim = wait_for_process("tasks/train.py")
    while victim.is_running() and not loop.store.names("checkpoints"):
        time.sleep(0.01)
    os.kill(victim.pid, signal.SIGKILL)
    tasks = loop.follow("flights.train", run_id)
    assert max(task["try_number"] for task in tasks.values()) == 2
    assert "train: xgboost goes on after round " in loop.airflow.log("flights.train", run_id, "train", 2)
    assert not loop.store.names("checkpoints"), "they go when the model is written"


def wait_for_process(script: str, seconds: float = 600) -> psutil.Process:
    home = os.environ["AIRLOOP_HOME"]
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for process in psutil.process_iter(["cmdline", "cwd"]):
            if script in (process.info["cmdline"] or []) and (process.info["cwd"] or "").startswith(home):
                return process
        time.sleep(0.05)
    raise AssertionError(f"{script} was not seen at work within {seconds} s")


def test_a_rollback_is_one_dag_trigger(loop: Loop) -> None:
    version = loop.ledger()[-1].to_version
    loop.run("flights.deploy", {"version": 1, "reason": "the e2e test says so"})
    entry = loop.ledger()[-1]
    assert (entry.action, entry.from_version, entry.to_version) == ("rollback", version, 1)
    assert "the e2e test says so" in entry.why
    assert loop.aliases()["champion"] == "1"
    assert loop.online()["model_version"] == 1
    scored = loop.store.read_json("predictions/2013-04/scored.json")
    assert scored["champion"] == 1, "what was scored keeps the champion it had"


def test_of_a_prediction_everything_can_be_asked(loop: Loop) -> None:
    answer = httpx.post(
        f"{environment().online_url}/models/flights/predict",
        json={
            "carrier": "UA",
            "flight": 1545,
            "origin": "EWR",
            "destination": "IAH",
            "scheduled_time": "2013-04-05T17:00",
        },
        timeout=30,
    ).json()["predictions"][0]
    until(lambda: prediction_log.find(loop.store, answer["prediction_id"]), "the log is written")
    said = subprocess.run(["airloop", "lineage", answer["prediction_id"]], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    entry = loop.ledger()[0]
    for words in (f"v{entry.to_version}", entry.evidence.model, entry.evidence.run, "2013-03", "rollback", "promote"):
        assert words in said.stdout


def test_a_model_is_rebuilt_from_the_registry_and_the_remote(loop: Loop) -> None:
    said = subprocess.run(["airloop", "rebuild", "1"], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout + said.stderr
    assert "the same ONNX bytes" in said.stdout
