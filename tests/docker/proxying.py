"""The proxy on loopback: nginx by docker/proxy/, in front of replicas that say who they are and do as they are told."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from local.paths import ROOT

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Replica:
    """An HTTP server that counts requests by method and path and answers with its name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.seen: Counter[str] = Counter()
        self.hold = threading.Event()
        """Answers wait for it."""
        self.hold.set()
        self.status = 200
        self.hangs_up = False
        """Whether it takes a request and closes the connection without a word."""
        replica = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("content-length") or 0))
                replica.seen[f"{self.command} {self.path}"] += 1
                replica.hold.wait(30)
                if replica.hangs_up:
                    self.close_connection = True
                    return
                body = replica.name.encode()
                self.send_response(replica.status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = answer  # noqa: N815 - the names that http.server calls

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"127.0.0.1:{self.server.server_port}"

    @contextmanager
    def running(self) -> Iterator[Replica]:
        thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.hold.set()
            self.server.shutdown()
            self.server.server_close()


@contextmanager
def replicas(count: int = 2) -> Iterator[list[Replica]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Replica(f"replica {n + 1}").running()) for n in range(count)]


@contextmanager
def proxy(addresses: Sequence[str], folder: Path, balance: str = "least_conn") -> Iterator[str]:
    """start.sh in front of these host:port; yields its URL once it answers."""
    if NGINX is None:
        pytest.skip("there is no nginx here (Debian: apt-get install nginx-light)")
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    environ = {
        **os.environ,
        "PATH": f"{Path(NGINX).parent}:{os.environ['PATH']}",
        "AIRLOOP_BALANCE": balance,
        "AIRLOOP_REPLICAS": " ".join(addresses),
        "AIRLOOP_LISTEN": f"127.0.0.1:{port}",
        "AIRLOOP_PROXY_FOLDER": str(folder),
        "AIRLOOP_PROXY_CONFIG": str(ROOT / "docker/proxy/nginx.conf"),
    }
    with (folder / "nginx.log").open("w") as log:
        process = subprocess.Popen(
            ["sh", str(ROOT / "docker/proxy/start.sh")], env=environ, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 20
        while not _answers(url):
            assert process.poll() is None and time.monotonic() < deadline, (folder / "nginx.log").read_text()
            time.sleep(0.05)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0, "it ends when it is told to, after the requests that it has"


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/proxyz").status_code == 200
    except httpx.TransportError:
        return False
