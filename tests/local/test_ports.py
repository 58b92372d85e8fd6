"""Two homes on one machine: each finds ports of its own, and a service answers only to its own home."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from local import env, paths, ports, postgres
from local.errors import LocalError
from local.place import HOST, PORTS
from local.services import services
from tasks.settings import addresses
from tasks.settings.environment import Environment
from tests.postgres import started

from .test_stack import free_ports, wait_for


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith(("AIRLOOP_", "AIRFLOW", "MLFLOW"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AIRLOOP_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(env, "ROOT", tmp_path)
    return tmp_path / "home"


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A port that somebody else holds, as MLflow's usual one."""
    with socket.socket() as server:
        server.bind((HOST, 0))
        server.listen()
        monkeypatch.setitem(PORTS, "AIRLOOP_MLFLOW_PORT", server.getsockname()[1])
        yield server.getsockname()[1]


def test_a_usual_port_that_is_taken_makes_way_and_says_so(home, busy, capsys):
    before = env.place()
    assert before.mlflow_port == busy
    moved = ports.settle(before, env.said())
    assert busy < moved.mlflow_port < busy + ports.TRIES
    said = capsys.readouterr().out
    assert f"Port {busy} is taken by another program" in said and f"process {os.getpid()}" in said
    assert f"mlflow of {home} listens on {moved.mlflow_port} from now on. AIRLOOP_MLFLOW_PORT names another." in said


def test_a_home_remembers_its_ports(home, busy):
    moved = ports.settle(env.place(), env.said())
    assert env.place() == moved
    assert env.environment()["MLFLOW_TRACKING_URI"] == moved.mlflow_url


def test_a_port_that_somebody_named_stays(home, busy, monkeypatch):
    monkeypatch.setenv("AIRLOOP_MLFLOW_PORT", str(busy))
    assert ports.settle(env.place(), env.said()).mlflow_port == busy


def test_a_named_port_wins_over_the_remembered_one(home, busy, monkeypatch):
    ports.settle(env.place(), env.said())
    monkeypatch.setenv("AIRLOOP_MLFLOW_PORT", "5055")
    assert env.place().mlflow_port == 5055


@pytest.mark.parametrize("text", ["", "[]", "{", '{"mlflow": 5}', '{"airflow": "x"}'])
def test_a_broken_file_of_addresses_means_the_usual_ports(home, text):
    home.mkdir()
    (home / addresses.FILE).write_text(text)
    assert env.place().ports == PORTS


def test_no_free_port_is_said(home, busy, monkeypatch):
    monkeypatch.setattr(ports, "is_busy", lambda *_: True)
    with pytest.raises(LocalError, match="set AIRLOOP_AIRFLOW_PORT to one that is"):
        ports.settle(env.place(), env.said())


def test_a_stage_run_by_hand_finds_its_own_home_s_services(home, busy):
    moved = ports.settle(env.place(), env.said())
    found = Environment()
    assert (found.mlflow_tracking_uri, found.online_url) == (moved.mlflow_url, moved.online_url)


def test_the_demo_s_ports_are_the_usual_ones_and_a_hundred_more(home, monkeypatch):
    monkeypatch.setenv("AIRLOOP_AIRFLOW_PORT", "9000")
    monkeypatch.setenv("AIRLOOP_DEMO", "1")
    assert list(env.place().ports.values()) == [9100, 5100, 8100]


def test_each_home_has_a_path_of_its_own_at_mlflow(home, tmp_path, monkeypatch):
    first = env.place().mlflow_url
    assert env.place().mlflow_url == first
    monkeypatch.setenv("AIRLOOP_HOME", str(tmp_path / "other"))
    assert env.place().mlflow_url.rpartition("/home-")[0] == first.rpartition("/home-")[0]
    assert env.place().mlflow_url != first


@pytest.fixture
def mlflow(home, tmp_path, monkeypatch) -> Iterator[str]:
    """The MLflow of one home, as `up` starts it."""
    monkeypatch.setenv("AIRLOOP_MLFLOW_PORT", free_ports(1)[0])
    (home / "mlflow").mkdir(parents=True)
    server = next(program for program in services(env.place()) if program.name == "mlflow")
    environ = {**os.environ, **env.environment()}
    with (tmp_path / "log").open("w") as log, started(home):
        postgres.make_databases(home)
        process = subprocess.Popen(server.command, env=environ, cwd=paths.ROOT, stdout=log, stderr=log)
        try:
            wait_for(lambda: process.poll() is None and _answers(server.health_url))
            yield env.place().mlflow_url
        finally:
            process.terminate()
            process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).is_success
    except httpx.TransportError:
        return False


LOG = """
from tasks.registry.mlflow_server import Server, trouble
from tasks.settings.environment import environment
from tasks.registry.mlflow_registry import client
uri = environment().mlflow_tracking_uri
print("answers", trouble(uri) is None)
try:
    print("experiment", Server(uri).experiment("flights/progress"))
except Exception as error:
    print("refused", error)
try:
    print("models", len(client().search_registered_models()))
except Exception as error:
    print("refused", error)
"""


def test_a_training_of_one_home_is_not_logged_into_the_other_s_mlflow(mlflow, home, tmp_path):
    """The second home was never up and has the same port; then the same by a shell that only says the host and port."""
    own = _log({"AIRLOOP_HOME": str(home), "MLFLOW_TRACKING_URI": mlflow})
    assert "answers True" in own and "experiment " in own and "models 0" in own and "refused" not in own
    other = tmp_path / "other"
    for uri in (
        env.Place(other, other, 1, int(mlflow.split(":")[2].split("/")[0]), 2, "/home-00000000").mlflow_url,
        mlflow.rpartition("/")[0],
    ):
        said = _log({"AIRLOOP_HOME": str(other), "MLFLOW_TRACKING_URI": uri})
        assert "answers False" in said and said.count("refused") == 2, said


def _log(environ: dict[str, str]) -> str:
    env = {**os.environ, **environ, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "PYTHONPATH": str(paths.ROOT)}
    return subprocess.run(
        [sys.executable, "-c", LOG], env=env, cwd=paths.ROOT, capture_output=True, text=True, check=True
    ).stdout


def test_mlflow_answers_at_any_port_of_loopback_as_ssh_forwards_it(mlflow):
    url = f"{mlflow}/api/2.0/mlflow/experiments/search?max_results=1"
    for host, status in {"localhost:15000": 200, "127.0.0.1:9": 200, "[::1]:7": 200, "evil.example:5000": 403}.items():
        assert httpx.get(url, headers={"Host": host}, trust_env=False).status_code == status, host


def test_the_addresses_hold_what_the_home_answers_to(home):
    where = ports.settle(env.place(), env.said())
    assert json.loads((home / addresses.FILE).read_text()) == {
        "airflow": where.airflow_url, "mlflow": where.mlflow_url, "online": where.online_url,
    }  # fmt: skip
