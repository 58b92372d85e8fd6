"""The environment that services, demo, tests and bench share."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from local import env, keys, paths, postgres
from local.errors import LocalError
from local.place import mlflow_path
from tasks.core.urls import path_of

NAMES = {
    "AIRLOOP_HOME", "AIRLOOP_STORE", "AIRLOOP_LANDING", "AIRLOOP_DVC_REMOTE", "AIRLOOP_DVC_CACHE", "AIRLOOP_ONLINE_URL",
    "AIRLOOP_PLACE", "AIRLOOP_CODE", "AIRLOOP_APPRISE_URL", "AIRLOOP_AIRFLOW_PORT", "AIRLOOP_MLFLOW_PORT", "AIRLOOP_ONLINE_PORT",
    "AIRLOOP_DEMO", "AIRLOOP_ADMIN_TOKEN", "AIRLOOP_STUDIES", "AIRLOOP_MODEL",
}  # fmt: skip


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in os.environ:
        if name.startswith(("AIRLOOP_", "AIRFLOW")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AIRLOOP_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(env, "ROOT", tmp_path / "checkout")
    return tmp_path / "home"


def test_what_runs_here_works_for_the_default_model_whatever_run_yaml_is_about(home, monkeypatch):
    code = home.parent / "checkout"
    code.mkdir()
    (code / "params.yaml").write_text("default_model: first\n")
    (code / "run.yaml").write_text("model: second\n")
    monkeypatch.chdir(code)
    assert env.environment()["AIRLOOP_MODEL"] == "first"
    monkeypatch.setenv("AIRLOOP_MODEL", "third")
    assert env.environment()["AIRLOOP_MODEL"] == "third"


def test_it_names_every_place_and_no_other(home):
    assert {name for name in env.environment() if name.startswith("AIRLOOP_")} == NAMES


def test_the_example_file_names_every_variable():
    example = (paths.ROOT / ".env.example").read_text()
    assert [name for name in NAMES - {"AIRLOOP_CODE", "AIRLOOP_DEMO"} if f"#{name}=" not in example] == []


def test_all_state_lies_in_the_home(home):
    made = env.environment()
    state = ("STORE", "LANDING", "DVC_REMOTE", "DVC_CACHE", "HOME")
    inside = [made[f"AIRLOOP_{name}"] for name in state] + [
        made["AIRFLOW_HOME"], made["DVC_SITE_CACHE_DIR"], made["SPARK_LOCAL_DIRS"], made["AIRFLOW__LOGGING__BASE_LOG_FOLDER"],
    ]  # fmt: skip
    assert [value for value in inside if not str(path_of(value)).startswith(str(home))] == []


def test_what_the_shell_says_of_places_wins(home, monkeypatch):
    monkeypatch.setenv("AIRLOOP_STORE", "s3://bucket/store")
    monkeypatch.setenv("AIRLOOP_MLFLOW_PORT", "5055")
    made = env.environment()
    assert made["AIRLOOP_STORE"] == "s3://bucket/store"
    assert made["MLFLOW_TRACKING_URI"] == f"http://127.0.0.1:5055{mlflow_path(home)}"


def test_the_file_is_read_and_the_shell_wins_over_it(home, monkeypatch, tmp_path):
    (tmp_path / "checkout").mkdir()
    (tmp_path / "checkout" / ".env").write_text(
        "# a remark\nAIRLOOP_PLACE=cluster\nAIRLOOP_ADMIN_TOKEN=t\nexport AIRLOOP_STORE='s3://file'\n"
    )
    monkeypatch.setenv("AIRLOOP_STORE", "s3://shell")
    made = env.environment()
    assert (made["AIRLOOP_PLACE"], made["AIRLOOP_STORE"]) == ("cluster", "s3://shell")
    assert made["AIRLOOP_ADMIN_TOKEN"] == "t", "a variable that only one part reads is handed on too"


def test_a_shell_set_up_for_other_work_does_not_leak_in(home, monkeypatch):
    monkeypatch.setenv("AIRFLOW_HOME", "/somebody/elses")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://company.example")
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "postgresql://company")
    made = env.environment()
    assert made["AIRFLOW_HOME"].startswith(str(home))
    assert made["MLFLOW_TRACKING_URI"].startswith("http://127.0.0.1:")
    assert made["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] == postgres.url(home, "airflow")


@pytest.mark.parametrize("port", ["web", "0", "70000"])
def test_a_port_that_is_none_is_named_with_its_variable(home, monkeypatch, port):
    monkeypatch.setenv("AIRLOOP_ONLINE_PORT", port)
    with pytest.raises(LocalError, match=f"AIRLOOP_ONLINE_PORT='{port}' is no port; use"):
        env.place()


def test_two_services_cannot_share_a_port(home, monkeypatch):
    monkeypatch.setenv("AIRLOOP_ONLINE_PORT", "8080")
    with pytest.raises(LocalError, match="share a port"):
        env.place()


def test_the_spark_connection_is_what_airflow_reads(home):
    connection = json.loads(env.environment()["AIRFLOW_CONN_SPARK_DEFAULT"])
    assert connection == {"conn_type": "spark", "host": f"local[{os.cpu_count()}]", "extra": {"deploy-mode": "client"}}


def test_secrets_are_made_once_and_for_their_owner_only(home):
    first = keys.load(home)
    assert keys.load(home) == first
    assert set(first) == set(keys.NAMES)
    assert stat.S_IMODE((home / "secrets.json").stat().st_mode) == 0o600


def test_processes_that_start_at_once_agree_on_the_secrets(tmp_path):
    code = f"from pathlib import Path; from local import keys; print(keys.load(Path({str(tmp_path / 'h')!r})))"
    started = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=paths.ROOT) for _ in range(6)]
    assert len({process.communicate()[0] for process in started}) == 1


def test_shell_lines_survive_a_shell(home):
    lines = subprocess.run(
        [sys.executable, "-m", "local.cli", "env"], capture_output=True, text=True, check=True, cwd=paths.ROOT
    )
    shell = f'{lines.stdout}\nprintf %s "$AIRFLOW_CONN_SPARK_DEFAULT"'
    said = subprocess.run(
        ["sh", "-c", shell], capture_output=True, text=True, check=True, env={"PATH": os.environ["PATH"]}
    )
    assert json.loads(said.stdout)["conn_type"] == "spark"
