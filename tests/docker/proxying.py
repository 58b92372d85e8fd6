"""The proxy on loopback: HAProxy by docker/proxy/, in front of replicas that say who they are and do as they are told."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
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

HAPROXY = shutil.which("haproxy", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
BALANCE = ROOT / "docker/proxy/balance.py"


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Replica:
    """An HTTP server that counts requests by method and path and answers with its name."""

    def __init__(self, name: str, port: int = 0) -> None:
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
            wbufsize = -1  # an answer leaves in one piece

            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("content-length") or 0))
                if self.path == "/healthz" and not self.headers.get("user-agent"):  # the proxy's own check
                    self.say(200)
                    return
                replica.seen[f"{self.command} {self.path}"] += 1
                replica.hold.wait(30)
                if replica.hangs_up:
                    self.close_connection = True
                else:
                    self.say(replica.status)

            def say(self, status: int) -> None:
                body = replica.name.encode()
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                self.wfile.flush()

            do_GET = do_POST = do_DELETE = answer  # noqa: N815 - the names that http.server calls

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
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


class Proxy(str):
    """A proxy's URL, with how to change its balance."""

    environ: dict[str, str]

    def balance(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the `balance` command beside the proxy, as `docker compose exec proxy balance` does."""
        command = [sys.executable, "-IS", str(BALANCE), *words]
        return subprocess.run(command, env=self.environ, capture_output=True, text=True, check=False)


@contextmanager
def proxy(addresses: Sequence[str], folder: Path, balance: str = "least_conn") -> Iterator[Proxy]:
    """The proxy in front of these host:port; yields its URL once it answers."""
    if HAPROXY is None:
        pytest.skip("there is no haproxy here (Debian: apt-get install haproxy)")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "balance").write_text(balance)
    port = free_port()
    url = Proxy(f"http://127.0.0.1:{port}")
    url.environ = {
        **os.environ,
        "PATH": f"{Path(HAPROXY).parent}:{os.environ['PATH']}",
        "AIRLOOP_REPLICAS": " ".join(addresses),
        "AIRLOOP_LISTEN": f"127.0.0.1:{port}",
        "AIRLOOP_PROXY_FOLDER": str(folder),
        "AIRLOOP_PROXY_CONFIG": str(ROOT / "docker/proxy/haproxy.cfg"),
    }
    with (folder / "haproxy.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-IS", str(BALANCE), "--start"], env=url.environ, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + 20
        while not _answers(url):
            assert process.poll() is None and time.monotonic() < deadline, (folder / "haproxy.log").read_text()
            time.sleep(0.05)
        yield url
    finally:
        process.send_signal(signal.SIGUSR1)
        assert process.wait(timeout=40) == 0, "it ends when it is asked to, after the requests that it has"


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/proxyz").status_code == 200
    except httpx.TransportError:
        return False
