"""make's commands about models and predictions are about this checkout's services, whatever ports those have."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from local import paths

NOT_THERE = b'{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such version"}'


class Registry(BaseHTTPRequestHandler):
    """An MLflow that has no model."""

    def do_GET(self) -> None:
        self.send_response(404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(NOT_THERE)))
        self.end_headers()
        self.wfile.write(NOT_THERE)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    server = HTTPServer(("127.0.0.1", 0), Registry)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def make(tmp_path: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """make, as a shell without any setting of ours runs it."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("AIRLOOP_", "MLFLOW_", "MAKE"))}
    env |= {"AIRLOOP_HOME": str(tmp_path / "home"), **environ}
    return subprocess.run(["make", *words], cwd=paths.ROOT, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("command", ["rebuild MODEL=99", "rollback VERSION=99"])
def test_the_registry_on_another_port_is_asked(command: str, port: int, tmp_path: Path) -> None:
    done = make(tmp_path, *command.split(), AIRLOOP_MLFLOW_PORT=str(port))
    assert done.returncode != 0
    assert f"MLflow has no version 99 of the model 'airloop'; http://127.0.0.1:{port} lists them." in done.stderr


def test_a_registry_elsewhere_is_asked_where_it_is_named(port: int, tmp_path: Path) -> None:
    done = make(tmp_path, "rebuild", "MODEL=99", MLFLOW_TRACKING_URI=f"http://localhost:{port}")
    assert f"http://localhost:{port} lists them." in done.stderr


def test_what_is_no_prediction_is_said_with_both_forms(tmp_path: Path) -> None:
    done = make(tmp_path, "lineage", "PREDICTION=nonsense")
    assert done.returncode != 0
    assert f"No prediction 'nonsense' in {(tmp_path / 'home/store').as_uri()}" in done.stderr
    assert "2013-04.v1." in done.stderr and "online.2013-04-05.v1." in done.stderr


def test_a_setting_that_is_wrong_stops_it(tmp_path: Path) -> None:
    done = make(tmp_path, "lineage", "PREDICTION=nonsense", AIRLOOP_MLFLOW_PORT="many")
    assert "AIRLOOP_MLFLOW_PORT='many' is no port" in done.stderr
    assert "No prediction" not in done.stderr


def test_a_command_without_its_variable_says_which(tmp_path: Path) -> None:
    assert "say which: make rebuild MODEL=" in make(tmp_path, "rebuild").stderr
