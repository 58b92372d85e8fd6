"""The real service behind the real proxy, under load: replicas restarted one after the other, and one killed."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack, contextmanager

import httpx
import pytest

from tasks.common.artefacts import Store
from tests.docker.proxying import free_port, proxy
from tests.serving.world import CODE, FLIGHT, World

pytestmark = pytest.mark.slow


class Service:
    """A replica of the online service as its own process, on a port that it keeps."""

    def __init__(self, store: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._environ = {**os.environ, "AIRLOOP_STORE": store}
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "uvicorn", "serving.app:app", "--port", str(self.port), "--no-access-log"]
        self.process = subprocess.Popen(command, cwd=CODE, env=self._environ, stderr=subprocess.DEVNULL)

    def stop(self, how: signal.Signals) -> None:
        self.process.send_signal(how)
        self.process.wait(timeout=30)

    def wait(self) -> None:
        deadline = time.monotonic() + 60
        while True:
            try:
                if httpx.get(f"{self.url}/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            assert time.monotonic() < deadline and self.process.poll() is None, "a replica did not become ready"
            time.sleep(0.1)


@contextmanager
def load(url, threads=4):
    """Asks for predictions until the block ends; yields what is answered, by status or error."""
    answers, end = Counter(), threading.Event()

    def ask():
        with httpx.Client(base_url=url, timeout=10) as client:
            while not end.is_set():
                try:
                    answers[str(client.post("/predict", json=FLIGHT).status_code)] += 1
                except httpx.HTTPError as error:
                    answers[repr(error)] += 1
                time.sleep(0.002)

    running = [threading.Thread(target=ask) for _ in range(threads)]
    for thread in running:
        thread.start()
    try:
        yield answers
    finally:
        end.set()
        for thread in running:
            thread.join()


@pytest.fixture(scope="module")
def online(tmp_path_factory):
    """Two replicas on one store, and the proxy's URL."""
    folder = tmp_path_factory.mktemp("rolling")
    world = World(Store((folder / "store").as_uri()))
    world.land("2013-01")
    world.land("2013-02")
    world.promote(1, 1.0)
    with ExitStack() as stack:
        both = [Service(world.store.url) for _ in range(2)]
        for replica in both:
            stack.callback(lambda replica=replica: replica.process.kill())
        for replica in both:
            replica.wait()
        yield both, stack.enter_context(proxy([f"127.0.0.1:{r.port}" for r in both], folder / "nginx"))


def test_a_rolling_restart_under_load_loses_no_request(online):
    both, url = online
    with load(url) as answers:
        for replica in (*both, *both):
            replica.stop(signal.SIGTERM)
            replica.start()
            replica.wait()
            time.sleep(2)  # the proxy asks it again after one
    assert set(answers) == {"200"} and answers.total() > 500, answers


def test_a_killed_replica_costs_no_request_either(online):
    both, url = online
    with load(url) as answers:
        both[0].stop(signal.SIGKILL)
        time.sleep(2)
        both[0].start()
        both[0].wait()
        time.sleep(4)
    assert set(answers) == {"200"} and answers.total() > 200, answers
