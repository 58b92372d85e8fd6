"""The stack for real: built, started, asked, taken down. Minutes, so only where AIRLOOP_TEST_COMPOSE=1 and an engine answers."""

import json
import os
import subprocess
import urllib.error
import urllib.request

import pytest

PROJECT = "airloop-test"
SERVERS = {"postgres", "api-server", "scheduler", "dag-processor", "triggerer", "mlflow", "online"}

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(2400),
    pytest.mark.skipif(
        os.environ.get("AIRLOOP_TEST_COMPOSE") != "1",
        reason="set AIRLOOP_TEST_COMPOSE=1 to build the image and start the stack (minutes)",
    ),
]


@pytest.fixture(scope="module")
def run(docker_compose, new_env_file):
    """Runs a compose command in the tests' own project; what it says is shown when a test fails."""
    command = [*docker_compose, "--env-file", str(new_env_file), "--project-name", PROJECT]

    def run(*arguments: str, check: bool = True) -> str:
        done = subprocess.run([*command, *arguments], stdout=subprocess.PIPE, text=True, check=False)
        assert not check or done.returncode == 0, f"docker compose {' '.join(arguments)} failed, see above"
        return done.stdout

    return run


@pytest.fixture(scope="module")
def stack(run, new_env_file):
    """The environment file of the stack, which is up; down it goes with its volumes, whatever happened."""
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        pytest.skip("no docker engine answers")
    try:
        run("up", "--build", "--wait", "--wait-timeout", "1500")
        yield dict(line.split("=", 1) for line in new_env_file.read_text().splitlines() if not line.startswith("#"))
    except AssertionError:
        run("ps", "--all", check=False)
        run("logs", "--tail", "40", check=False)
        raise
    finally:
        run("down", "--volumes", "--remove-orphans", "--timeout", "20", check=False)


def test_every_server_is_healthy_and_what_runs_once_has_ended_well(run, stack):
    listed = [json.loads(line) for line in run("ps", "--all", "--format", "json").splitlines()]
    states = {entry["Service"]: entry["Health"] or entry["State"] for entry in listed}
    assert states == {**dict.fromkeys(SERVERS, "healthy"), "airflow-init": "exited"}
    assert {entry["ExitCode"] for entry in listed} == {0}


def test_airflow_knows_the_login_and_every_dag(stack):
    token = ask(
        stack["AIRLOOP_AIRFLOW_PORT"], "/auth/token", {"username": "admin", "password": stack["AIRLOOP_ADMIN_PASSWORD"]}
    )
    dags = ask(stack["AIRLOOP_AIRFLOW_PORT"], "/api/v2/dags", token=token["access_token"])
    assert {dag["dag_id"] for dag in dags["dags"]} == {"ingest", "train", "deploy", "score", "monitor"}
    errors = ask(stack["AIRLOOP_AIRFLOW_PORT"], "/api/v2/importErrors", token=token["access_token"])
    assert errors["import_errors"] == []


def test_a_wrong_password_is_refused(stack):
    with pytest.raises(urllib.error.HTTPError, match="401"):
        ask(stack["AIRLOOP_AIRFLOW_PORT"], "/auth/token", {"username": "admin", "password": "guess"})


def test_mlflow_keeps_what_it_is_told_in_postgresql(run, stack):
    made = ask(stack["AIRLOOP_MLFLOW_PORT"], "/api/2.0/mlflow/experiments/create", {"name": "kept"})
    query = f"SELECT name FROM experiments WHERE experiment_id = {int(made['experiment_id'])}"
    assert run("exec", "-T", "postgres", "psql", "-U", "postgres", "-d", "mlflow", "-tAc", query).strip() == "kept"


def test_mlflow_answers_no_other_hosts_name(stack):
    with pytest.raises(urllib.error.HTTPError, match="403"):
        ask(stack["AIRLOOP_MLFLOW_PORT"], "/api/2.0/mlflow/experiments/get?experiment_id=0", host="elsewhere.example")


def test_online_is_alive_and_not_ready_before_the_first_promotion(stack):
    assert ask(stack["AIRLOOP_ONLINE_PORT"], "/healthz") == {"alive": True}
    with pytest.raises(urllib.error.HTTPError, match="503"):
        ask(stack["AIRLOOP_ONLINE_PORT"], "/readyz")


@pytest.mark.parametrize("service", sorted(SERVERS - {"postgres"}))
def test_nothing_of_ours_runs_as_root_or_finds_a_compiler(run, stack, service):
    found = run("exec", "-T", service, "sh", "-c", "id -u; command -v gcc cc uv apt-add-repository || true")
    assert found.split() == ["10001"]


def ask(port, path, body=None, *, token=None, host=None):
    """The JSON answer of a published port; a POST where there is a body."""
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    if host:
        headers["Host"] = host
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, headers)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
        return json.load(answer)
