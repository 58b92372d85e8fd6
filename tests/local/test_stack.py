"""One real `up` and `down`, through the command line, with a checkout of two small DAGs in a home of its own."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from local import paths, postgres, processes, supervise
from local.place import mlflow_path

pytestmark = pytest.mark.e2e

FIRST = """
from airflow.sdk import Asset, dag, task
@dag(schedule=None)
def first():
    @task(outlets=[Asset("handed_on")])
    def hand_on(): ...
    hand_on()
first()
"""
SECOND = """
from airflow.sdk import Asset, dag, task
@dag(schedule=[Asset("handed_on")])
def second():
    @task
    def take(): ...
    take()
second()
"""


@dataclass
class Stack:
    home: Path
    env: dict[str, str]
    log: str = ""

    def run(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "local.cli", *words]
        return subprocess.run(command, env=self.env, cwd=paths.ROOT, capture_output=True, text=True, check=check)

    def airflow(self, method: str, path: str, **body: object) -> dict:
        """What Airflow's API answers."""
        login = json.loads((self.home / "airflow" / "passwords.json").read_text())
        user = {"username": "admin", "password": login["admin"]}
        with httpx.Client(base_url=self.url("AIRFLOW"), timeout=60) as client:
            token = client.post("/auth/token", json=user).json()["access_token"]
            headers = {"Authorization": f"Bearer {token}"}
            answer = client.request(method, f"/api/v2{path}", headers=headers, json=body or None)
        return answer.raise_for_status().json()

    def url(self, service: str) -> str:
        return f"http://127.0.0.1:{self.env[f'AIRLOOP_{service}_PORT']}"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    base = tmp_path_factory.mktemp("stack")
    for name, text in {"first": FIRST, "second": SECOND}.items():
        (base / "code" / "dags").mkdir(parents=True, exist_ok=True)
        (base / "code" / "dags" / f"{name}.py").write_text(text)
    (base / "code" / "plugins").mkdir()
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AIRLOOP_", "AIRFLOW"))}
    ports = dict(
        zip(("AIRLOOP_AIRFLOW_PORT", "AIRLOOP_MLFLOW_PORT", "AIRLOOP_ONLINE_PORT"), free_ports(3), strict=True)
    )
    env |= {"AIRLOOP_HOME": str(base / "home"), "AIRLOOP_CODE": str(base / "code"), **ports}
    # A company's proxy that does not answer, no word of loopback, another Spark and a Java option that no Java starts with.
    env |= dict.fromkeys(
        ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"), "http://127.0.0.1:9"
    )
    env |= {
        "SPARK_HOME": "/nonexistent",
        "JAVA_TOOL_OPTIONS": "-no-such-option",
        "MLFLOW_BACKEND_STORE_URI": "sqlite:////nonexistent/x",
    }
    env.pop("NO_PROXY", None)
    env.pop("no_proxy", None)
    made = Stack(base / "home", env)
    try:
        started = made.run("up", check=False)
        assert started.returncode == 0, started.stdout + started.stderr
        made.log = started.stdout
        yield made
    finally:
        made.run("delete", "--yes", check=False)


def free_ports(count: int) -> list[str]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [str(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


def test_up_says_what_is_where_and_how_to_log_in(stack):
    for words in (
        "Airflow's scheduler",
        stack.url("AIRFLOW"),
        stack.url("MLFLOW"),
        "user admin, password",
        "airloop down",
    ):
        assert words in stack.log


def test_everything_listens_on_loopback_only(stack):
    listening = [
        (process.name(), link.laddr.ip)
        for process in processes.ours(stack.home)
        for link in process.net_connections("inet")
        if link.status == psutil.CONN_LISTEN
    ]
    assert len(listening) >= 2
    assert [entry for entry in listening if entry[1] != "127.0.0.1"] == []


def test_up_again_changes_nothing(stack):
    before = {process.pid for process in processes.ours(stack.home)}
    assert "Already up." in stack.run("up").stdout
    assert before <= {process.pid for process in processes.ours(stack.home)}


def test_up_again_starts_what_has_died(stack):
    """Killed thrice, a program is given up by supervisord; here it is only stopped, which looks the same to `up`."""
    before = supervise.states(stack.home)
    supervise.stop(stack.home, "mlflow")
    assert stack.run("status", check=False).returncode == 1
    assert "Already up." in stack.run("up").stdout
    after = supervise.states(stack.home)
    assert [name for name in after if after[name]["pid"] != before[name]["pid"]] == ["mlflow"]


def test_status_names_every_service(stack):
    # A busy machine misses a heartbeat now and then.
    said = wait_for(lambda: (now := stack.run("status", check=False)).returncode == 0 and now.stdout)
    assert said.count(" well\n") == 6
    assert "not well" not in said


def test_no_secret_reaches_a_file_that_others_can_read(stack):
    secrets = [value.encode() for value in json.loads((stack.home / "secrets.json").read_text()).values()]
    for file in stack.home.rglob("*"):
        if file.is_file() and file.stat().st_mode & 0o077:
            assert not any(secret in file.read_bytes() for secret in secrets), file


def test_a_run_that_an_asset_starts_ends_well(stack):
    wait_for(lambda: stack.airflow("GET", "/dags")["total_entries"] == 2)
    stack.airflow("POST", "/dags/first/dagRuns", logical_date=None)
    runs = wait_for(lambda: finished(stack.airflow("GET", "/dags/second/dagRuns")["dag_runs"]))
    assert [run["state"] for run in runs] == ["success"]


def test_the_database_is_killed_and_nothing_is_lost(stack):
    """supervisord starts it again; Airflow and MLflow go on, restarted where they gave up."""
    before = postgres.server(stack.home)
    runs = len(stack.airflow("GET", "/dags/first/dagRuns")["dag_runs"])
    before.kill()
    wait_for(lambda: (now := postgres.server(stack.home)) and now != before)
    wait_for(lambda: stack.run("status", check=False).returncode == 0)
    assert len(stack.airflow("GET", "/dags/first/dagRuns")["dag_runs"]) == runs > 0
    stack.airflow("POST", "/dags/first/dagRuns", logical_date=None)
    ended = wait_for(lambda: finished(stack.airflow("GET", "/dags/first/dagRuns")["dag_runs"]))
    assert [run["state"] for run in ended] == ["success"] * (runs + 1)


def test_a_killed_mlflow_listens_again_itself(stack):
    """Its server's child outlives it and holds the port, beside which no later start could listen."""
    before = supervise.states(stack.home)["mlflow"]["pid"]
    psutil.Process(before).kill()
    wait_for(lambda: supervise.states(stack.home)["mlflow"]["pid"] not in {0, before})
    wait_for(lambda: stack.run("status", check=False).returncode == 0)
    pid, port = supervise.states(stack.home)["mlflow"]["pid"], int(stack.url("MLFLOW").rpartition(":")[2])
    assert processes.listens(pid, port)


def test_mlflow_answers_to_its_own_name_only(stack):
    url = stack.url("MLFLOW") + mlflow_path(stack.home)
    assert httpx.get(f"{url}/health").text == "OK"
    assert httpx.get(f"{stack.url('MLFLOW')}/health").status_code == 404, "another home's address"
    query = {"url": f"{url}/api/2.0/mlflow/experiments/search", "params": {"max_results": 1}}
    assert httpx.get(**query).status_code == 200
    assert httpx.get(**query, headers={"Host": "evil.example"}).status_code == 403


def test_a_killed_supervisor_leaves_nothing_that_down_does_not_find(stack):
    """The last test of this module: it ends the stack."""
    workspace = stack.home / "workspace"
    workspace.mkdir()
    shell = f'{stack.run("env").stdout}\ncd "{workspace}" && dvc init -q --no-scm && echo 1 > a && dvc add -q a'
    subprocess.run(["sh", "-c", shell], check=True, capture_output=True)
    assert any((stack.home / "dvc-site").iterdir()), "DVC's site cache has to lie in the home"

    before = processes.ours(stack.home)
    supervisor = psutil.Process(int((stack.home / "run" / "supervisord.pid").read_text()))
    supervisor.kill()
    wait_for(lambda: not processes.is_live(supervisor))
    stopped = stack.run("down")

    assert re.search(r"^Stopped \d+ processes\.", stopped.stdout, re.MULTILINE)
    assert [process for process in before if processes.is_live(process)] == []
    assert (workspace / "a.dvc").exists(), "stopping keeps what somebody works with"
    assert "Nothing was running." in stack.run("down").stdout
    stack.run("delete", "--yes")
    assert not stack.home.exists()


def finished(runs: list[dict]) -> list[dict]:
    return runs if runs and all(run["state"] in {"success", "failed"} for run in runs) else []


def wait_for(probe, seconds: float = 180):
    """What the probe answers once that is true."""
    deadline = time.monotonic() + seconds
    while not (found := probe()):
        assert time.monotonic() < deadline, f"waited {seconds} s in vain"
        time.sleep(0.3)
    return found
