"""deploy on a real ledger, a real MLflow registry (SQLite) and a real online service: promote, heal, take back, roll back."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import mlflow
import pytest

from tasks import deploy, online
from tasks.core.errors import AirloopError, DataError, Skip, Unavailable
from tasks.core.urls import url_of
from tasks.online import client
from tasks.online.client import ask
from tasks.registry import ledger, mlflow_registry, versions
from tasks.settings import environment as environment_module
from tasks.storage.artefacts import Store, to_json
from tests import clock, makers
from tests.serving.world import CODE, World

FLIGHT = {"carrier": "B6", "flight": 101, "origin": "JFK", "dest": "SFO"}
AT = 1360848600  # 2013-02-14 08:30 in New York: before ten, where the model of the tests says 1 / (1 + e^score)


class Place:
    """A store with two landed intervals, an empty registry, a service that looks at the store only when told."""

    def __init__(self, root: Path) -> None:
        self.store = Store(url_of(root / "store")).part("flights")
        self.world = World(self.store)
        self.book = ledger.Ledger(self.store)
        for interval in ("2013-01", "2013-02"):
            self.world.land(interval)

    def register(self, score: float, data_through: str, *, smoke: float | None = None) -> int:
        """A version as `register` leaves it; ``smoke`` is the probability that its evaluation claims for one flight."""
        evidence = self.world.put_model(score)
        known = {"onnx": evidence.model, "contract": evidence.contract, "run": f"train-{score}",
                 "data_through": data_through, "why": "test"}  # fmt: skip
        tags = {f"airloop.{k}": v for k, v in known.items()}
        record, tags = makers.approved(self.store, tags, makers.champion_of(self.book))
        source = self.store.uri(f"models/{evidence.model}")
        made = int(mlflow_registry.client().create_model_version("flights", source, tags=tags).version)
        assert versions.claim(self.store, made, record, tags)
        answer = 1 / (1 + 2.718281828459045**score) if smoke is None else smoke
        rows = [{**FLIGHT, "scheduled_at": AT, "probability": answer}]
        self.store.write(f"models/{evidence.model}/smoke.json", to_json(rows))
        return made

    def agreed(self) -> tuple[int | None, str, int | None]:
        """What ledger, registry and service say is live."""
        live = self.book.latest()
        aliases = mlflow_registry.client().get_registered_model("flights").aliases
        online = httpx.get(f"{environment_module.environment().online_url}/models/flights/ready", timeout=30).json()
        return (live.to_version if live else None, str(aliases.get("champion")), online["model_version"])


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The online service as a process, on a store that the tests fill."""
    root = tmp_path_factory.mktemp("deploy")
    (root / "store").mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {**os.environ, "AIRLOOP_STORE": url_of(root / "store"), "AIRLOOP_CODE": str(CODE)}
    command = [sys.executable, "-m", "uvicorn", "serving.app:app", "--port", str(port), "--log-level", "warning"]
    process = subprocess.Popen(command, env=env, cwd=CODE)
    try:
        wait_for(f"http://127.0.0.1:{port}/healthz")
        yield root, f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def wait_for(url: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            httpx.get(url, timeout=5)
        except httpx.TransportError:
            time.sleep(0.2)
        else:
            return
    raise AssertionError(f"{url} did not answer within {seconds} s")


@pytest.fixture
def place(service: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    root, url = service
    clock.install(monkeypatch)
    for old in (root / "store").rglob("*.json"):
        old.unlink()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'registry.db'}")
    monkeypatch.setenv("AIRLOOP_STORE", url_of(root / "store"))
    monkeypatch.setenv("AIRLOOP_ONLINE_URL", url)
    environment_module.environment.cache_clear()
    mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])
    mlflow_registry.client().create_registered_model("flights")
    yield Place(root)
    environment_module.environment.cache_clear()


def test_a_promotion_reaches_registry_and_service(place: Place) -> None:
    place.register(0.5, "2013-02")
    deploy.promote("2013-02", "test", place.book, place.store)
    live = deploy.deploy(place.book, place.store)
    assert (live.to_version, live.effective_from) == (1, "2013-03")
    assert place.agreed() == (1, "1", 1)


@pytest.mark.parametrize("killed_after", ["the ledger", "the aliases"])
def test_a_kill_between_two_writes_heals_on_the_next_run(place: Place, killed_after: str) -> None:
    place.register(0.5, "2013-02")
    deploy.promote("2013-02", "test", place.book, place.store)
    deploy.deploy(place.book, place.store)
    place.register(0.8, "2013-03")
    deploy.promote("2013-03", "test", place.book, place.store)
    if killed_after == "the aliases":
        deploy.show(place.book, place.store)

    deploy.promote("2013-03", "test", place.book, place.store)  # as the retried task does
    deploy.deploy(place.book, place.store)
    assert place.agreed() == (2, "2", 2)
    assert [e.action for e in place.book.entries()] == ["promote", "promote"], "the retry added no entry"


def test_a_model_that_answers_otherwise_online_is_taken_back(place: Place) -> None:
    place.register(0.5, "2013-02")
    deploy.promote("2013-02", "test", place.book, place.store)
    deploy.deploy(place.book, place.store)
    place.register(0.8, "2013-03", smoke=0.123)
    deploy.promote("2013-03", "test", place.book, place.store)
    with pytest.raises(AirloopError, match=r"v2 was taken back, v1 is live again: .*0\.123"):
        deploy.deploy(place.book, place.store)
    assert place.agreed() == (1, "1", 1)
    assert [(e.action, e.to_version) for e in place.book.entries()] == [("promote", 1), ("promote", 2), ("revert", 1)]

    with pytest.raises(
        Skip, match=r"not promoted: v2 was live until ledger entry 3, a revert to v1 by airloop .*airloop rollback 2"
    ):
        deploy.promote("2013-03", "test", place.book, place.store)
    deploy.deploy(place.book, place.store)
    assert place.agreed() == (1, "1", 1), "running the deployment again does not bring back what was taken back"


def test_a_damaged_model_never_serves(place: Place) -> None:
    place.register(0.5, "2013-02")
    deploy.promote("2013-02", "test", place.book, place.store)
    deploy.deploy(place.book, place.store)
    place.register(0.8, "2013-03")
    entry = deploy.promote("2013-03", "test", place.book, place.store)
    assert entry.evidence is not None
    place.store.write(f"models/{entry.evidence.model}/model.onnx", b"not a model")
    with pytest.raises(AirloopError, match=r"v2 was taken back, v1 is live again: .* refuses v2: v2 is refused: "):
        deploy.deploy(place.book, place.store)
    assert place.agreed() == (1, "1", 1)


def test_a_rollback_takes_effect_in_intervals_that_have_not_landed(place: Place) -> None:
    for score, interval in ((0.5, "2013-01"), (0.8, "2013-02")):
        place.register(score, interval)
        deploy.promote(interval, "test", place.book, place.store)
        deploy.deploy(place.book, place.store)
    deploy.roll_back(1, "somebody", "the shadow was right", place.book, place.store)
    live = deploy.deploy(place.book, place.store)
    assert (live.action, live.from_version, live.to_version, live.effective_from) == ("rollback", 2, 1, "2013-03")
    assert place.agreed() == (1, "1", 1)


def test_what_did_not_come_through_the_gate_cannot_go_live(place: Place) -> None:
    client = mlflow_registry.client()
    client.create_model_version("flights", "somewhere", tags={"airloop.data_through": "2013-02"})
    with pytest.raises(DataError, match="no registered model trained through 2013-02"):
        deploy.promote("2013-02", "mallory", place.book, place.store)
    with pytest.raises(DataError, match="No version 1 was registered"):
        deploy.roll_back(1, "mallory", "", place.book, place.store)
    assert place.book.entries() == []


def test_each_of_several_replicas_is_told_and_tried(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    (url,) = online.service().urls
    place.register(0.5, "2013-02")
    deploy.promote("2013-02", "test", place.book, place.store)
    monkeypatch.setenv("AIRLOOP_ONLINE_URL", f"{url}, {url.replace('127.0.0.1', 'localhost')}/,http://127.0.0.1:9")
    environment_module.environment.cache_clear()
    with pytest.raises(AirloopError, match=r"does not answer at http://127\.0\.0\.1:9/-/sync/flights"):
        deploy.deploy(place.book, place.store)
    monkeypatch.setenv("AIRLOOP_ONLINE_URL", f"{url}, {url.replace('127.0.0.1', 'localhost')}/")
    environment_module.environment.cache_clear()
    asked = []
    monkeypatch.setattr(client, "ask", lambda url, path, body: asked.append(url + path) or ask(url, path, body))
    deploy.deploy(place.book, place.store)
    other = url.replace("127.0.0.1", "localhost")
    assert asked == [
        f"{url}/-/sync/flights",
        f"{other}/-/sync/flights",
        f"{url}/models/flights/predict",
        f"{other}/models/flights/predict",
    ]


def test_a_service_that_is_away_loses_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.register(0.5, "2013-02")
    deploy.promote("2013-02", "test", place.book, place.store)
    with monkeypatch.context() as away:
        away.setenv("AIRLOOP_ONLINE_URL", "http://127.0.0.1:9")
        environment_module.environment.cache_clear()
        with pytest.raises(Unavailable, match=r"does not answer.*airloop up"):
            deploy.deploy(place.book, place.store)
    environment_module.environment.cache_clear()
    deploy.deploy(place.book, place.store)
    assert place.agreed() == (1, "1", 1)
    assert len(place.book.entries()) == 1


def test_the_service_is_put_right_though_mlflow_is_away(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was looked at after the aliases, and not at all where those could not be set."""
    place.register(0.5, "2013-02")
    deploy.promote("2013-02", "test", place.book, place.store)
    deploy.deploy(place.book, place.store)
    place.register(0.8, "2013-03")
    deploy.promote("2013-03", "test", place.book, place.store)
    with monkeypatch.context() as away:
        away.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        environment_module.environment.cache_clear()
        with pytest.raises(
            mlflow_registry.RegistryError,
            match=r"MLflow at .* does not answer.*Apart from that, v2 is live .*golden rows",
        ):
            deploy.deploy(place.book, place.store)
    environment_module.environment.cache_clear()
    assert place.agreed() == (2, "1", 2)
    deploy.deploy(place.book, place.store)
    assert place.agreed() == (2, "2", 2)


def test_of_a_service_and_a_registry_that_are_both_away_both_are_said(place: Place, monkeypatch) -> None:
    place.register(0.5, "2013-02")
    deploy.promote("2013-02", "test", place.book, place.store)
    with monkeypatch.context() as away:
        away.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        away.setenv("AIRLOOP_ONLINE_URL", "http://127.0.0.1:9")
        environment_module.environment.cache_clear()
        with pytest.raises(Unavailable, match=r"online service does not answer.*MLflow at .* does not answer"):
            deploy.deploy(place.book, place.store)
    environment_module.environment.cache_clear()
    assert len(place.book.entries()) == 1, "nothing is taken back because somebody is away"
