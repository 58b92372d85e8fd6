"""Progress in the log and in MLflow: one run for a training, no step twice, and nobody waits for a server that is away."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from mlflow import MlflowClient

from tasks import register
from tasks.training import progress as module
from tasks.training import tracking
from tasks.training.progress import Progress, gpu_use
from tasks.training.tracking import Tracker


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real tracking server."""
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    argv = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    argv += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder)]
    env = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(argv, env=env, stdout=log, stderr=log, cwd=folder)
    uri = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                if httpx.get(f"{uri}/health", timeout=1).is_success:
                    break
            except httpx.HTTPError:
                time.sleep(0.2)
        else:
            raise AssertionError((folder / "log").read_text())
        yield uri
    finally:
        server.terminate()
        server.wait()


def tracker(uri: str, training: str = "t") -> Tracker:
    return Tracker(uri, training, training, {"airloop.family": "xgboost"}, {"seed": 7})


def train(told: Tracker, steps: range, of: int = 40, seconds: float = 3600) -> None:
    with Progress("xgboost", "round", seconds, tracker=told) as progress:
        for step in steps:
            progress.step(step, of, 10, {"validation log loss": 1 / step})


def runs(uri: str, training: str) -> list[dict]:
    client = tracking.Server(uri)
    wanted = {
        "experiment_ids": [client.experiment("flights/progress")],
        "filter": f"tags.`airloop.training` = '{training}'",
    }
    return list(client.post("runs/search", wanted).get("runs", []))


def curve(uri: str, run: dict, name: str = "validation_log_loss") -> list[int]:
    asked = {"run_id": run["info"]["run_id"], "metric_key": name}
    return [int(m["step"]) for m in tracking.Server(uri).get("metrics/get-history", **asked).get("metrics", [])]


@pytest.mark.slow
def test_a_training_that_goes_on_has_one_run_and_no_step_twice(mlflow: str) -> None:
    killed = tracker(mlflow, "again")
    for step in range(1, 26):
        killed.note(step, 40, {"validation log loss": 1 / step})
    killed.send()  # and no more: it was killed
    (run,) = runs(mlflow, "again")
    assert (run["info"]["status"], curve(mlflow, run)) == ("RUNNING", list(range(1, 26)))
    train(tracker(mlflow, "again"), range(11, 41))  # goes on from a checkpoint at 10
    (run,) = runs(mlflow, "again")
    assert (run["info"]["status"], curve(mlflow, run)) == ("FINISHED", list(range(1, 41)))
    train(tracker(mlflow, "again"), range(0))
    (run,) = runs(mlflow, "again")
    assert run["info"]["status"] == "FINISHED"
    assert {tag["key"]: tag["value"] for tag in run["data"]["tags"]}["airloop.family"] == "xgboost"
    assert run["data"]["params"] == [{"key": "seed", "value": "7"}]
    client = MlflowClient(mlflow)
    assert register.training_run(client, "again") == run["info"]["run_id"], "the model's version leads to it"
    assert register.training_run(client, "another") is None


def end(uri: str, name: str, error: BaseException) -> None:
    with Progress("mlp", tracker=tracker(uri, name)) as progress:
        progress.step(1, 2, 3, {"loss": 1.0})
        raise error


@pytest.mark.slow
def test_how_it_ended_is_said(mlflow: str) -> None:
    for name, error, status in (("ended", SystemExit(143), "KILLED"), ("failed", ValueError("x"), "FAILED")):
        with pytest.raises(type(error)):
            end(mlflow, name, error)
        assert [run["info"]["status"] for run in runs(mlflow, name)] == [status]


@pytest.mark.slow
def test_a_long_curve_is_thinned_and_what_json_cannot_say_is_left_out(mlflow: str) -> None:
    told = tracker(mlflow, "long")
    for step in range(1, 10_001):
        told.note(step, 10_000, {"loss": float("nan") if step == 5000 else 1.0})
    told.close("FINISHED")
    (run,) = runs(mlflow, "long")
    found = curve(mlflow, run, "loss")
    assert (found[0], found[-1], len(found)) == (5, 10_000, tracking.POINTS - 1)


@pytest.mark.slow
def test_a_server_that_comes_back_gets_what_was_kept(mlflow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "AGAIN", 0.0)
    told = tracker(mlflow, "back")
    told.note(1, 2, {"loss": 1.0})
    told._uri = "http://127.0.0.1:9"
    told.send()
    told._uri = mlflow
    told.note(2, 2, {"loss": 0.5})
    told.send()
    (run,) = runs(mlflow, "back")
    assert curve(mlflow, run, "loss") == [1, 2]


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "sqlite:///x.db"])
def test_without_a_server_it_is_said_once_and_training_goes_on(uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    started = time.monotonic()
    train(tracker(uri), range(1, 41), seconds=0.01)
    assert time.monotonic() - started < 3
    assert capsys.readouterr().err.count("takes no progress") == 1


def test_a_server_that_hangs_costs_three_seconds_once(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        told = tracker(f"http://127.0.0.1:{deaf.getsockname()[1]}")
        started = time.monotonic()
        with Progress("xgboost", seconds=3600, tracker=told) as progress:
            progress.step(1, 2, 3, {"loss": 1.0})
            stepped = time.monotonic() - started
        assert stepped < 0.5, "no step waits"
        assert time.monotonic() - started < 4.5
    assert capsys.readouterr().err.count("it does not answer") == 1


def test_numbers_wait_in_bounded_memory() -> None:
    told = tracker("http://127.0.0.1:9")
    for step in range(1, 3 * tracking.QUEUE):
        told.note(step, step, {"loss": 1.0})
    assert len(told._points) == tracking.QUEUE


def test_the_log_has_a_line_now_and_then(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "gpu_use", lambda: {"gpu_use": 87.0, "gpu_memory_mib": 2048.0})
    with Progress("mlp", seconds=0.05, gpu=True) as progress:
        for step in range(8, 11):
            progress.step(step, 100, 64, {"loss": 0.5}, epoch=step / 10)
            time.sleep(0.12)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "train: mlp goes on after step 7"
    assert lines[1].startswith("train: mlp step 8 of at most 100, epoch 0.80, loss 0.50000, ")
    assert " rows/s, GPU 87%, 2.0 GiB, at most " in lines[1] and lines[1].endswith(" s left")
    assert 3 <= len(lines) <= 5


def test_what_another_process_takes_over_is_the_same() -> None:
    ours = Progress("mlp", "step", 1.0, gpu=True, tracker=tracker("http://127.0.0.1:9", "abc"))
    place = ours.handed_over()
    theirs = Progress.taken_over(place)
    assert theirs._tracker is not None and ours._tracker is None, "only one of the two tells"
    assert theirs.handed_over() == place


def test_the_gpus_say_what_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_use() == {}
    script = tmp_path / "nvidia-smi"
    script.write_text(
        '#!/bin/sh\n[ "$1" = --query-gpu=utilization.gpu,memory.used ] && echo "40, 1000" && echo "60, 3000"\n'
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    assert gpu_use() == {"gpu_use": 50.0, "gpu_memory_mib": 4000.0}
    script.write_text("#!/bin/sh\necho 'No devices were found'; exit 6\n")
    assert gpu_use() == {}
