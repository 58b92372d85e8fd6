"""`make … PLACE=compose`: what is said where docker is missing, and which services are started. tests/docker plays on it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from local import compose, demo_report, env
from local.errors import LocalError
from tasks.common.artefacts import Store


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


def test_services_are_all_but_those_that_are_left_out(checkout):
    everything = set(compose.services())
    assert {"grafana", "prometheus", "scheduler"} < everything and not {"worker", "airflow-cli"} & everything
    assert set(compose.services(["grafana"])) == everything - {"grafana"}


def test_a_service_that_is_not_there_cannot_be_left_out(checkout):
    with pytest.raises(LocalError, match=r"WITHOUT=graphana is no service; use some of .*grafana"):
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
    assert demo_report._openable(Store(tmp_path.as_uri()).uri(name), page).startswith("file:")
