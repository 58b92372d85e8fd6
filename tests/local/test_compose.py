"""`airloop … --place compose`: what is said where docker is missing, and which services are started. tests/docker plays on it."""

import io
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from local import compose, demo_report, env
from local.errors import LocalError
from tasks.core.urls import url_of
from tasks.storage.artefacts import Store


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout's compose file with fresh secrets beside it."""
    if (
        shutil.which("docker") is None
        or subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode
    ):
        pytest.skip("there is no docker command with a compose plugin here")
    shutil.copy(compose.ROOT / "docker-compose.yaml", tmp_path)
    shutil.copytree(compose.ROOT / "docker", tmp_path / "docker")
    subprocess.run([sys.executable, tmp_path / "docker/make_env.py"], check=True)
    monkeypatch.setattr(compose, "ROOT", tmp_path)
    return tmp_path


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with its own .env, and no secret in the environment."""
    monkeypatch.setattr(env, "ROOT", tmp_path)
    monkeypatch.delenv("AIRLOOP_ADMIN_PASSWORD", raising=False)
    return tmp_path / ".env"


@pytest.mark.parametrize("what", [compose.up, compose.down])
def test_without_docker_it_says_what_to_install(what, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LocalError, match="install Docker with its compose plugin"):
        what()


@pytest.mark.parametrize(("fails", "says"), [("compose", "no compose plugin"), ("version", "DOCKER_HOST")])
def test_a_docker_that_cannot_do_it_says_why(fails, says, tmp_path, monkeypatch):
    command = tmp_path / "docker"
    command.write_text(f'#!/bin/sh\n[ "$1" != {fails} ]\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LocalError, match=says):
        compose.up()


@pytest.mark.parametrize(
    ("compose_version", "engine", "says"),
    [("2.23.3", "26.1.5", "compose is 2.23.3; .* needs 2.24"), ("v2.26.1", "24.0.7+dfsg", "engine is 24.0.7.* needs 25.0"),
     ("2.24.0-desktop.1", "25.0.3", None), ("5.0.1", "29.1.0", None), ("dev", "something else", None)],
)  # fmt: skip
def test_an_engine_that_is_too_old_is_named_before_anything_starts(
    compose_version, engine, says, tmp_path, monkeypatch
):
    """Health checks have a start_interval, which engine 25 brought and older ones refuse."""
    command = tmp_path / "docker"
    command.write_text(f'#!/bin/sh\nif [ "$1" = compose ]; then echo "{compose_version}"; else echo "{engine}"; fi\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    if says is None:
        compose._check_engine()
    else:
        with pytest.raises(LocalError, match=says):
            compose._check_engine()


PS = """{"Service": "s3", "ID": "1", "State": "running", "Health": "healthy", "ExitCode": 0}
{"Service": "airflow-init", "ID": "2", "State": "exited", "Health": "", "ExitCode": 0}
{"Service": "online-1", "ID": "3", "State": "running", "Health": "unhealthy", "ExitCode": 0}
{"Service": "mlflow", "ID": "4", "State": "exited", "Health": "", "ExitCode": 137}
{"Service": "proxy", "ID": "5", "State": "running", "Health": "starting", "ExitCode": 0}"""


def test_what_is_not_well_says_why(tmp_path, monkeypatch):
    """`up --wait` names a service, and no reason: the health check's last words are one."""
    command = tmp_path / "docker"
    command.write_text(
        f'#!/bin/sh\ncase "$*" in\n*inspect*3) echo \'""\'; echo \'"the store cannot be read: 403\\\\n"\';;\n'
        f"*inspect*) ;;\n*ps*) cat <<'E'\n{PS}\nE\n;;\nesac\n"
    )
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert compose.unwell() == [
        "online-1: the store cannot be read: 403",
        "mlflow: it ended with exit code 137; `docker compose logs mlflow` says why",
        "proxy: its health check has not ended; see `docker compose logs proxy`",
    ]


def test_what_a_container_is_given_can_be_read_by_its_user(tmp_path):
    """Whatever the umask of the checkout: its user is never the owner."""
    source = tmp_path / "from"
    (source / "inner").mkdir(parents=True)
    (source / "inner/code.py").write_text("x = 1\n")
    archive = tmp_path / "data.tar.gz"
    archive.write_bytes(b"data")
    for path in (source, source / "inner"):
        path.chmod(0o700)
    for path in (source / "inner/code.py", archive):
        path.chmod(0o600)
    target = tmp_path / "to"
    target.mkdir()
    folder, file = compose._readable(target, source, archive)
    assert file.read_bytes() == b"data" and (folder / "inner/code.py").read_text() == "x = 1\n"
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (folder, folder / "inner")}
    assert (
        modes == {0o755}
        and stat.S_IMODE(file.stat().st_mode) == stat.S_IMODE((folder / "inner/code.py").stat().st_mode) == 0o644
    )


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """A docker command that says what is asked for, and keeps with which project and port it was called."""

    def made(stacks: str = "[]") -> Path:
        calls = tmp_path / "calls"
        (tmp_path / "docker").write_text(
            f"""#!/bin/sh
echo "$COMPOSE_PROJECT_NAME $AIRLOOP_AIRFLOW_PORT $*" >> {calls}
case "$*" in
  "compose version"*) echo 2.40.0;;
  "version"*) echo 28.0.0;;
  "compose ls"*) echo '{stacks}';;
  "volume ls"*) echo "${{COMPOSE_PROJECT_NAME}}_s3";;
esac
"""
        )
        (tmp_path / "docker").chmod(0o755)
        return calls

    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(env, "ROOT", tmp_path)
    monkeypatch.setattr(compose, "ROOT", tmp_path)
    monkeypatch.setattr(compose, "_secrets", lambda: None)
    for name in [name for name in os.environ if name.startswith(("AIRLOOP_", "COMPOSE_"))]:
        monkeypatch.delenv(name)
    return made


def test_another_checkout_s_stack_is_not_taken_for_ours(docker):
    calls = docker(json.dumps([{"Name": "airloop", "ConfigFiles": "/somebody/else/docker-compose.yaml"}]))
    for verb in (compose.up, compose.down, lambda: compose.delete(sure=True)):
        with pytest.raises(
            LocalError, match="project airloop is the stack of /somebody/else; set COMPOSE_PROJECT_NAME"
        ):
            verb()
    assert not {"down", "rm", "up", "build"} & set(calls.read_text().split())


def test_the_demo_deletes_the_volumes_of_its_own_project_only(docker, tmp_path, monkeypatch):
    calls = docker(json.dumps([{"Name": "airloop", "ConfigFiles": str(tmp_path / "docker-compose.yaml")}]))
    monkeypatch.setenv("AIRLOOP_DEMO", "1")
    compose.delete(sure=True)
    said = calls.read_text().splitlines()
    assert "airloop-demo 8180 volume rm --force airloop-demo_s3" in said
    changing = [line for line in said if {"down", "rm"} & set(line.split())]
    assert all(line.startswith("airloop-demo 8180 ") for line in changing) and len(changing) == 2


def test_down_keeps_the_volumes_and_delete_asks(docker, monkeypatch):
    calls = docker()
    compose.down()
    assert "--volumes" not in calls.read_text()
    monkeypatch.setattr(sys, "stdin", io.StringIO("yes"))
    with pytest.raises(LocalError, match="airloop delete --place compose --yes"):
        compose.delete(sure=False)
    assert "volume rm" not in calls.read_text()


def test_services_are_all_but_those_that_are_left_out(checkout):
    everything = set(compose.services())
    assert {"grafana", "prometheus", "scheduler"} < everything and not {"worker", "airflow-cli"} & everything
    assert set(compose.services(["grafana"])) == everything - {"grafana"}


def test_a_service_that_is_not_there_cannot_be_left_out(checkout):
    with pytest.raises(LocalError, match=r"--without graphana is no service; use some of .*grafana"):
        compose.services(["graphana"])


def test_the_login_is_read_where_compose_reads_it(elsewhere, monkeypatch):
    with pytest.raises(LocalError, match=r"make_env\.py"):
        compose.password()
    elsewhere.write_text("AIRLOOP_ADMIN_PASSWORD=from-the-file\n")
    assert compose.password() == "from-the-file"
    monkeypatch.setenv("AIRLOOP_ADMIN_PASSWORD", "from-the-shell")
    assert compose.password() == "from-the-shell"


def test_a_report_in_a_bucket_is_linked_by_its_page(tmp_path):
    page = "http://127.0.0.1:8080/airloop/"
    name = "reports/2013-04/index.html"
    assert demo_report._openable(f"s3://bucket/store/{name}", page) == page + name
    assert demo_report._openable(Store(url_of(tmp_path)).uri(name), page).startswith("file:")
