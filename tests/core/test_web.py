"""All HTTP clients have one set-up: loopback past proxies, certificates as the user's shell names them."""

from __future__ import annotations

import os
import ssl
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tasks.core import network, web
from tasks.online import client as online
from tasks.registry.mlflow_server import trouble

NOWHERE = "http://127.0.0.1:9"


class Well(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def do_POST(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(autouse=True)
def shell(monkeypatch: pytest.MonkeyPatch) -> None:
    """A company's proxy that is away, and no word of loopback."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy") or name in network.AUTHORITIES]:
        monkeypatch.delenv(name)
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, NOWHERE)


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    made = HTTPServer(("127.0.0.1", 0), Well)
    yield made
    made.shutdown()
    made.server_close()


def serving(server: HTTPServer) -> int:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """A certificate of an authority of one's own, for localhost, with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "server.pem").write_bytes(secret + made.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "ca.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return tmp_path / "ca.pem"


@pytest.fixture
def private(server: HTTPServer, authority: Path) -> str:
    """Address of a server that only those trust who know its authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.with_name("server.pem"))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    return f"https://localhost:{serving(server)}"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_loopback_is_asked_itself_whatever_the_proxy(server, host):
    url = f"http://{host}:{serving(server)}"
    assert trouble(url) is None
    assert online.ask(url, "/predict", {})[:2] == (200, {})
    with web.client(url, seconds=5) as client:
        assert client.get("/").is_success


def test_what_is_elsewhere_is_asked_by_the_proxy():
    with web.client("http://mlflow.example", seconds=5) as client, pytest.raises(httpx.ConnectError):
        client.get("/")


def test_a_server_of_a_private_authority_is_not_trusted_unasked(private):
    assert trouble(private)


@pytest.mark.parametrize("name", [*network.AUTHORITIES, "MLFLOW_TRACKING_SERVER_CERT_PATH"])
def test_a_private_authority_is_trusted_whichever_variable_names_it(private, authority, monkeypatch, name):
    monkeypatch.setenv(name, str(authority))
    assert trouble(private) is None


def test_no_check_is_what_mlflow_s_own_variable_says(private, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_INSECURE_TLS", "true")
    assert trouble(private) is None


def test_no_client_is_made_past_the_set_up():
    """httpx's functions and clients would each have a set-up of their own."""
    command = [
        "git",
        "grep",
        "-nE",
        r"httpx\.(get|post|put|Client|AsyncClient|request|stream)\(",
        "--",
        "models",
        "tasks",
        "local",
        "serving",
        "plugins",
    ]
    root = Path(__file__).parents[2]
    found = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False).stdout.splitlines()
    assert [line for line in found if not line.startswith("tasks/core/web.py:")] == []
