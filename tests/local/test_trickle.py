"""The demo's online requests: each is counted, and what fails is never silent."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from local.trickle import Trickle
from tasks.core.urls import url_of
from tasks.landing import landed_index
from tasks.storage.artefacts import Store
from tests.serving.world import World

ANSWER = b'{"predictions": [{"prediction_id": "online.1", "degraded": true}]}'


class Service(BaseHTTPRequestHandler):
    """Answers every second request, and is away for the others."""

    asked = 0

    def do_POST(self) -> None:
        Service.asked += 1
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200 if Service.asked % 2 else 503)
        self.end_headers()
        self.wfile.write(ANSWER)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    Service.asked = 0
    server = HTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(url_of(tmp_path / "store")).part("flights")


def wait_for(enough: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not enough():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_requests_and_failures_are_counted_with_the_last_reason(url: str, store: Store) -> None:
    World(store).land("2013-01")
    trickle = Trickle(url, store, pause=0.01)
    trickle.start()
    wait_for(lambda: trickle.requests >= 6)
    told = trickle.stop()
    assert told["failed"] == told["requests"] // 2
    assert told["degraded"] == told["requests"] - told["failed"]
    assert "503" in told["last_error"]
    assert told["last_prediction"] == "online.1"


def test_a_store_that_cannot_be_read_is_a_failure_and_not_the_end(url: str, store: Store) -> None:
    store.write(landed_index.HEAD, b"{")
    trickle = Trickle(url, store, pause=0.01)
    trickle.start()
    wait_for(lambda: trickle.failed >= 2)
    assert "head.json" in trickle.last_error
    store.delete(landed_index.HEAD)
    World(store).land("2013-01")
    wait_for(lambda: trickle.requests >= 2)
    trickle.stop()
