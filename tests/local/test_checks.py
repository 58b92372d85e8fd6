"""What is wrong is said in one sentence with the way out."""

import os
import shutil
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

from local import checks, delete, paths, processes
from local.env import environment
from local.errors import LocalError
from local.services import Service
from tasks.core.urls import url_of


@pytest.fixture
def busy():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def program(port: int) -> Service:
    return Service("mlflow", "MLflow", ("true",), f"http://127.0.0.1:{port}/", port, "AIRLOOP_MLFLOW_PORT")


def test_a_busy_port_names_the_port_its_holder_and_the_variable(busy):
    with pytest.raises(LocalError) as raised:
        checks.check_port(program(busy))
    said = str(raised.value)
    assert f"Port {busy}, which MLflow wants, is taken" in said
    assert f"process {os.getpid()}" in said
    assert "set AIRLOOP_MLFLOW_PORT to a free port" in said
    assert "\n" not in said


def test_a_port_held_on_every_address_is_busy_too():
    with socket.socket() as server:
        server.bind(("0.0.0.0", 0))
        server.listen()
        assert processes.is_busy("127.0.0.1", server.getsockname()[1])


def test_a_port_that_was_closed_a_moment_ago_is_free():
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            server.accept()[0].close()
    checks.check_port(program(port))


def test_a_full_disk_says_how_full_and_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=2 * 1024**3))
    with pytest.raises(LocalError, match=r"has 2\.0 GB free and Airloop wants 6; make room there, or set AIRLOOP_HOME"):
        checks.check_disk(tmp_path / "not" / "made" / "yet")


def test_the_checkout_s_own_folder_is_a_home_whatever_ran_there_before():
    """`dvc repro`, or a test that fetched the example's data, before the first `airloop up`."""
    assert checks.is_ours(paths.HOME)


def test_a_folder_of_somebody_elses_is_no_home(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(LocalError, match="would delete them; set AIRLOOP_HOME to a new folder"):
        checks.check_home(tmp_path)


def test_delete_deletes_nothing_in_a_folder_of_somebody_elses(tmp_path, monkeypatch):
    """Not even what bears a name of ours: only asking for the environment would have made that."""
    for name in ("thesis.tex", *checks.UNCLAIMED):
        (tmp_path / name).touch()
    monkeypatch.setenv("AIRLOOP_HOME", str(tmp_path))
    with pytest.raises(LocalError, match="holds files that Airloop did not make"):
        delete.delete(sure=True)
    delete.empty(tmp_path)
    assert {entry.name for entry in tmp_path.iterdir()} == {"thesis.tex", *checks.UNCLAIMED}


def test_delete_deletes_what_asking_for_the_environment_made_but_no_download_and_no_demo(tmp_path, monkeypatch):
    home = tmp_path / "home"
    for name in ("jdk", "demo"):
        (home / name).mkdir(parents=True)
    monkeypatch.setenv("AIRLOOP_HOME", str(home))
    environment()
    delete.delete(sure=True)
    assert {entry.name for entry in home.iterdir()} == {"jdk", "demo"}


@pytest.mark.parametrize("name", ["jdk", *checks.UNCLAIMED, checks.MARKER])
def test_a_folder_of_ours_is(tmp_path, name):
    (tmp_path / name).touch()
    checks.check_home(tmp_path)


def test_a_missing_java_says_how_to_get_one():
    with pytest.raises(LocalError, match=r"Spark needs Java 17 or 21 .* apt install openjdk-17-jre-headless"):
        checks.check_java({"JAVA_HOME": "/nowhere"})


@pytest.mark.parametrize(("version", "modules"), [("11", "jdk.incubator.vector"), ("17", "java.base")])
def test_an_old_or_trimmed_java_is_refused(tmp_path: Path, version, modules):
    fake_java(tmp_path, version, modules)
    with pytest.raises(LocalError, match="not a complete 17 or 21"):
        checks.check_java({"JAVA_HOME": str(tmp_path)})


def test_a_complete_java_is_taken(tmp_path):
    fake_java(tmp_path, "21", "jdk.incubator.vector@21.0.1")
    checks.check_java({"JAVA_HOME": str(tmp_path)})


def fake_java(home: Path, version: str, modules: str) -> None:
    binary = home / "bin" / "java"
    binary.parent.mkdir()
    settings = f"    java.home = {home}\\n    java.specification.version = {version}\\n"
    binary.write_text(f"#!/bin/sh\ncase $1 in --list-modules) echo {modules};; *) printf '{settings}' >&2;; esac\n")
    binary.chmod(0o755)


@pytest.mark.parametrize("name", ["a,b", "a{b}", "a$PATH"])
def test_a_home_whose_name_cannot_be_is_one_sentence(tmp_path, name):
    with pytest.raises(LocalError, match="AIRLOOP_HOME"):
        checks.check_home(tmp_path / name)


def test_a_store_of_one_model_is_refused_with_the_way_out(tmp_path):
    (tmp_path / "store/ledger").mkdir(parents=True)
    checks.check_store(url_of(tmp_path / "store"))
    (tmp_path / "store/ledger/000001.json").write_text("{}")
    with pytest.raises(LocalError, match="as older versions kept it"):
        checks.check_store(url_of(tmp_path / "store"))
