"""The image's own small scripts, and the one that makes .env."""

import base64
import json
import stat
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from local.paths import ROOT

BODY = {"scheduler": {"status": "healthy"}, "triggerer": {"status": "unhealthy"}, "dag_processor": {"status": None}}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 503)
        self.end_headers()
        self.wfile.write(json.dumps(BODY).encode())

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


def test_a_service_that_answers_is_well(health, server):
    assert health.problem(f"{server}/health") is None
    assert health.problem(f"{server}/health", "scheduler") is None


@pytest.mark.parametrize("part", ["triggerer", "dag_processor", "worker"])
def test_a_part_that_is_not_healthy_or_not_there_is_not_well(health, server, part):
    assert part in health.problem(f"{server}/health", part)


def test_an_error_answer_and_a_closed_port_are_not_well(health, server):
    assert "503" in health.problem(f"{server}/elsewhere")
    assert health.problem("http://127.0.0.1:9/health")


def test_a_proxy_is_not_asked(health, server, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert health.problem(f"{server}/health") is None


def test_the_exit_code_says_it_and_the_start_is_light(server):
    command = [sys.executable, "-IS", str(ROOT / "docker/health.py")]
    assert subprocess.run([*command, f"{server}/health", "scheduler"], check=False).returncode == 0
    done = subprocess.run([*command, f"{server}/health", "triggerer"], check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "triggerer: unhealthy" in done.stderr


def test_make_env_adds_what_is_missing_and_keeps_the_rest(make_env, tmp_path):
    file = tmp_path / ".env"
    file.write_text("# mine\nAIRLOOP_MLFLOW_PORT=5001\nexport AIRLOOP_ADMIN_PASSWORD='kept'\nAIRLOOP_JWT_SECRET=")
    added = make_env.extend(file)
    assert set(added) == set(make_env.SECRETS) - {"AIRLOOP_ADMIN_PASSWORD"}
    text = file.read_text()
    assert text.startswith(
        "# mine\nAIRLOOP_MLFLOW_PORT=5001\nexport AIRLOOP_ADMIN_PASSWORD='kept'\nAIRLOOP_JWT_SECRET=\n"
    )
    assert make_env.missing(text) == []
    assert make_env.extend(file) == [] and file.read_text() == text


def test_only_the_owner_can_read_it(make_env, tmp_path):
    file = tmp_path / ".env"
    file.write_text("")
    file.chmod(0o644)
    make_env.extend(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_values_are_random_and_fit_into_an_address(make_env):
    for name in make_env.SECRETS:
        one, other = make_env.new(name), make_env.new(name)
        assert one != other and len(one) >= 16
        assert set(one.removesuffix("=")) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
    assert len(base64.urlsafe_b64decode(make_env.new("AIRLOOP_FERNET_KEY"))) == 32


def test_make_env_never_shows_a_value(tmp_path):
    file = tmp_path / ".env"
    done = subprocess.run(
        [sys.executable, str(ROOT / "docker/make_env.py"), "--file", str(file)],
        capture_output=True,
        text=True,
        check=True,
    )
    values = [line.split("=", 1)[1] for line in file.read_text().splitlines() if "=" in line]
    assert "AIRLOOP_FERNET_KEY" in done.stdout and not any(value in done.stdout for value in values)


def test_the_login_is_written_for_its_owner_only_and_replaced(init, tmp_path):
    file = tmp_path / "passwords.json"
    init.write_login(file, "first")
    init.write_login(file, 'a "quoted" one')
    assert json.loads(file.read_text()) == {"admin": 'a "quoted" one'}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_without_a_password_nothing_starts(init, monkeypatch, tmp_path):
    monkeypatch.setenv(init.PASSWORDS_FILE, str(tmp_path / "passwords.json"))
    monkeypatch.setenv("AIRLOOP_ADMIN_PASSWORD", "")
    with pytest.raises(SystemExit, match=r"make_env\.py"):
        init.main()
    assert list(tmp_path.iterdir()) == []
