"""One real uvicorn process: a model swapped under load, slow requests, a polite end and a rude one."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tasks.online import REFUSED, prediction_log
from tests.serving.world import CODE, FLIGHT, World
from tests.waiting import until


@contextmanager
def serving(
    world: World, *, code: Path = CODE, started: Callable[[subprocess.Popen[str]], object] = id, **settings: str
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The service of the checkout ``code`` on ``world``'s store as its own process; yields its URL once it is ready."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "AIRLOOP_STORE": world.store.shared.url, "PYTHONPATH": str(code), **settings}
    environment.pop("AIRLOOP_ADMIN_TOKEN", None)
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "serving.app:app", "--port", str(port), "--no-access-log"],
        cwd=code, env=environment, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    started(process)
    try:
        url = f"http://127.0.0.1:{port}"
        until(lambda: ready(url, process), "the service becomes ready")
        yield url, process
    finally:
        process.kill()
        process.communicate()


def ready(url: str, process: subprocess.Popen[str]) -> bool:
    assert process.poll() is None, process.stderr.read()
    try:
        return httpx.get(f"{url}/models/flights/ready").status_code == 200
    except httpx.TransportError:
        return False


def in_flight(url: str) -> bool:
    return 'airloop_online_in_flight{model="flights"} 1.0' in httpx.get(f"{url}/metrics").text


def listens(url: str) -> bool:
    try:
        socket.create_connection((httpx.URL(url).host, httpx.URL(url).port), timeout=20).close()
    except ConnectionRefusedError:
        return False
    return True


class SlowRequest:
    """A request of which half has been sent."""

    def __init__(self, url: str) -> None:
        address = httpx.URL(url)
        self._socket = socket.create_connection((address.host, address.port), timeout=20)
        body = json.dumps(FLIGHT).encode()
        head = f"POST /models/flights/predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        self._rest = body[20:]
        self._socket.sendall(f"{head}connection: close\r\n\r\n".encode() + body[:20])
        until(lambda: in_flight(url), "the service has begun with it")

    def finish(self) -> tuple[int, dict]:
        self._socket.sendall(self._rest)
        data = b""
        while part := self._socket.recv(65536):
            data += part
        head, _, body = data.partition(b"\r\n\r\n")
        return int(head.split()[1]), json.loads(body)


async def trickle(url: str, stop: asyncio.Event) -> list[tuple[int, int | None]]:
    """(status, version) of requests sent without a pause until ``stop``."""
    seen = []
    async with httpx.AsyncClient(base_url=url, timeout=20) as client:
        while not stop.is_set():
            response = await client.post("/models/flights/predict", json=FLIGHT)
            answer = response.json()
            seen.append(
                (response.status_code, answer["predictions"][0]["model_version"] if response.is_success else None)
            )
    return seen


def test_models_and_intervals_are_swapped_without_a_failed_request(world: World, run):
    async def go(url):
        stop = asyncio.Event()
        tasks = [asyncio.create_task(trickle(url, stop)) for _ in range(3)]
        async with httpx.AsyncClient(base_url=url, timeout=20) as client:
            for version in range(2, 7):
                await asyncio.to_thread(world.promote, version, 1.0 + version)
                if version == 4:
                    await asyncio.to_thread(world.land, "2013-03")
                synced = await client.post("/-/sync/flights")
                assert (synced.status_code, synced.json()["model_version"]) == (200, version)
                after = (await client.post("/models/flights/predict", json=FLIGHT)).json()["predictions"][0]
                assert after["model_version"] == version
                assert len(after["state"]["intervals"]) == (3 if version >= 4 else 2)
        stop.set()
        return [await task for task in tasks]

    with serving(world, AIRLOOP_ONLINE_POLL_SECONDS="3600") as (url, _):
        for seen in run(go(url)):
            assert {status for status, _ in seen} == {200}
            versions = [version for _, version in seen]
            assert versions == sorted(versions)
            assert len(set(versions)) > 1


def test_a_request_in_flight_is_finished_by_the_model_it_started_with(world: World):
    with serving(world) as (url, _):
        slow = SlowRequest(url)
        world.promote(2, 3.0)
        assert httpx.post(f"{url}/-/sync/flights").json()["model_version"] == 2
        status, answer = slow.finish()
        assert (status, answer["predictions"][0]["model_version"]) == (200, 1)
        fresh = httpx.post(f"{url}/models/flights/predict", json=FLIGHT).json()["predictions"][0]
        assert fresh["model_version"] == 2
        assert fresh["probability_late"] != answer["predictions"][0]["probability_late"]


def test_the_store_is_followed_without_being_told(world: World):
    with serving(world, AIRLOOP_ONLINE_POLL_SECONDS="0.1") as (url, _):
        world.promote(2, 3.0)
        world.land("2013-03")
        until(lambda: shows(url, version=2, intervals=3), "the service shows what is new")


def shows(url: str, version: int, intervals: int) -> bool:
    status = httpx.get(f"{url}/models/flights/ready").json()
    return (status["model_version"], len(status["state"]["intervals"])) == (version, intervals)


def test_sigterm_finishes_what_is_in_flight_and_the_log(world: World):
    with serving(world, AIRLOOP_ONLINE_FLUSH_SECONDS="3600") as (url, process):
        slow = SlowRequest(url)
        process.send_signal(signal.SIGTERM)
        until(lambda: not listens(url), "the service takes no more connections")
        status, answer = slow.finish()
        process.wait(timeout=15)
    assert status == 200
    assert prediction_log.find(world.store, answer["predictions"][0]["prediction_id"]) is not None


@pytest.mark.parametrize("moment", [0.05, 0.35])
def test_sigkill_loses_no_more_than_a_flush_and_leaves_whole_lines(world: World, moment):
    with serving(world, AIRLOOP_ONLINE_FLUSH_SECONDS="0.2") as (url, process), httpx.Client(base_url=url) as client:
        flushed = [predicted(client) for _ in range(200)]
        until(lambda: prediction_log.find(world.store, flushed[-1]), "a flush")
        end = time.monotonic() + moment  # in the middle of a flush, or between two
        while time.monotonic() < end:
            predicted(client)
        process.kill()
        process.wait()
    assert [name for name in flushed if prediction_log.find(world.store, name) is None] == []
    logs = [name for name in world.store.names("online") if name.endswith(".jsonl")]
    assert logs
    for name in logs:
        assert all(json.loads(line)["version"] == 1 for line in world.store.read(name).splitlines())


def predicted(client: httpx.Client) -> str:
    """A prediction's id."""
    return str(client.post("/models/flights/predict", json=FLIGHT).json()["predictions"][0]["prediction_id"])


def test_two_processes_share_a_store(world: World):
    with serving(world) as (first, _), serving(world) as (second, _):
        ids = [
            httpx.post(f"{url}/models/flights/predict", json=FLIGHT).json()["predictions"][0]["prediction_id"]
            for url in (first, second, first)
        ]
        assert len(set(ids)) == 3
        until(lambda: all(prediction_log.find(world.store, i) for i in ids), "both processes write their log")


def test_a_replica_that_can_never_serve_its_version_ends_and_says_why(world: World):
    world.promote(2, 2.0, expected=0.5)
    ended = []
    said = pytest.raises(
        AssertionError, match=r"this replica ends: flights: v2 is refused: the model answers 0\.119203"
    )
    with said, serving(world, AIRLOOP_ONLINE_VERSION__FLIGHTS="2", started=ended.append):
        pass
    assert ended[0].returncode == REFUSED


def test_a_replica_waits_for_a_model_that_the_store_does_not_give_now(world: World, tmp_path: Path):
    model = tmp_path / f"store/flights/models/{world.promote(2, 2.0)}/model.onnx"
    model.rename(tmp_path / "elsewhere")
    back = threading.Timer(4, (tmp_path / "elsewhere").rename, [model])
    back.start()
    with serving(world, AIRLOOP_ONLINE_VERSION__FLIGHTS="2", AIRLOOP_ONLINE_POLL_SECONDS="0.2") as (url, _):
        assert not back.is_alive(), "it was not ready before"
        assert httpx.get(f"{url}/models/flights/ready").json()["model_version"] == 2
