"""The real service behind the real proxy, under load on reused connections: replicas restarted, killed, and a canary."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack

import httpx
import pytest

from tasks.core.urls import url_of
from tasks.storage.artefacts import Store
from tests.docker.loading import load
from tests.docker.proxying import free_port, proxy
from tests.serving.world import CODE, World
from tests.waiting import until

pytestmark = pytest.mark.slow


class Service:
    """A replica of the online service as its own process, by the command of docker-compose.yaml, on a port that it keeps."""

    def __init__(self, store: str, command: list[str]) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._environ = {**os.environ, "AIRLOOP_STORE": store}
        self._command = [*command, f"--port={self.port}", "--host=127.0.0.1"]
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", *self._command]
        self.process = subprocess.Popen(command, cwd=CODE, env=self._environ, stderr=subprocess.DEVNULL)

    def stop(self, how: signal.Signals) -> None:
        self.process.send_signal(how)
        self.process.wait(timeout=30)

    def wait(self) -> None:
        until(self.ready, "a replica becomes ready")

    def ready(self) -> bool:
        return self.status() == 200

    def status(self) -> int:
        """What /readyz answers with; 0 while nothing listens."""
        assert self.process.poll() is None, "a replica has ended"
        try:
            return httpx.get(f"{self.url}/models/flights/ready").status_code
        except httpx.TransportError:
            return 0

    def asked(self) -> bool:
        """Whether the proxy has sent it a request since it was started."""
        return 'airloop_online_requests_total{model="flights",status="200"}' in httpx.get(f"{self.url}/metrics").text


@pytest.fixture(scope="module")
def online(tmp_path_factory, services):
    """Two replicas on one store, and the proxy's URL."""
    folder = tmp_path_factory.mktemp("rolling")
    world = World(Store(url_of(folder / "store")).part("flights"))
    world.land("2013-01")
    world.land("2013-02")
    world.promote(1, 1.0)
    with ExitStack() as stack:
        both = [Service(world.store.shared.url, services["online-1"]["command"]) for _ in range(2)]
        for replica in both:
            stack.callback(lambda replica=replica: replica.process.kill())
        for replica in both:
            replica.wait()
        yield both, stack.enter_context(proxy([f"127.0.0.1:{r.port}" for r in both], folder / "proxy"))


def test_a_replica_listens_when_it_can_answer(online):
    """Whoever restarts the next one as soon as this one is well must not leave none with a model."""
    both, _ = online
    both[0].stop(signal.SIGTERM)
    both[0].start()
    assert until(both[0].status, "the replica listens", pause=0) == 200


def test_a_rolling_restart_under_load_loses_no_request(online):
    both, url = online
    with load(url) as answers:
        for replica in (*both, *both):
            replica.stop(signal.SIGTERM)
            replica.start()
            replica.wait()
            until(replica.asked, "the proxy asks the replica again")
    assert answers.well and answers.sent > 500, answers
    assert answers.connections == 50, f"no client's connection was closed: {answers}"


def test_a_killed_replica_costs_no_request_either(online):
    both, url = online
    with load(url) as answers:
        for replica in both:
            replica.stop(signal.SIGKILL)
            before = answers.sent
            until(lambda before=before: answers.sent > before + 200, "the other replica answers")
            replica.start()
            replica.wait()
            until(replica.asked, "the proxy asks the replica again")
    assert answers.well and answers.sent > 200, answers
    assert answers.connections == 50, f"no client's connection was closed: {answers}"


def test_a_canary_comes_and_goes_under_load_without_a_lost_request(online):
    """With its replica replaced in between, as by another image."""
    both, url = online
    with load(url) as answers:
        assert url.balance("canary:5").returncode == 0
        both[1].stop(signal.SIGTERM)
        both[1].start()
        both[1].wait()
        until(both[1].asked, "the proxy asks the replica again")
        for balance in ("canary:50", "ip_hash", "round_robin", "least_conn"):
            assert url.balance(balance).returncode == 0
            time.sleep(0.5)
    assert answers.well and answers.connections == 50, answers


def test_half_a_request_does_not_keep_a_replica_from_ending(online):
    """Asked to end, it waits for the half no longer than it may, and then ends by itself, after its last flush."""
    both, _ = online
    with socket.create_connection(("127.0.0.1", both[0].port)) as client:
        client.sendall(b'POST /models/flights/predict HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{"carrier"')
        time.sleep(0.5)
        both[0].stop(signal.SIGTERM)  # fails where it must be killed after 30 seconds, as compose does
    assert both[0].process.returncode in (0, -signal.SIGTERM)
    both[0].start()
    both[0].wait()
