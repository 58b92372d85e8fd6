"""Whatever people delete in MLflow, on a real server: the ledger stays the truth and the next promotion works."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tasks import deploy, register
from tasks.core.results import Status
from tasks.core.urls import url_of
from tasks.registry import logged, mlflow_registry, notices, versions, view
from tasks.registry.ledger import Ledger
from tasks.registry.mlflow_registry import RegistryError
from tasks.retention import tracked
from tasks.retention.roots import Marked
from tasks.running.runs import RECORD, Run
from tasks.settings import code, environment
from tasks.storage.artefacts import Store, sha256, to_json, write_atomic
from tests.makers import champion_of, put_settings, verdict_on
from tests.serving.world import make_model
from tests.tasks.test_deploy import wait_for

# MLflow's client warns of its own parts when it logs a model.
pytestmark = [pytest.mark.filterwarnings("ignore::UserWarning"), pytest.mark.filterwarnings("ignore::FutureWarning")]


class Books:
    """A store with its ledger, and MLflow beside it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = Store(url_of(root / "store")).part("flights")
        self.book = Ledger(self.store)
        self.scores: dict[int, float] = {}

    def register(self, score: float, interval: str) -> int:
        """A model that passed the gate, by the code that registers; returns its number."""
        root = self.root / f"run-{score}"
        onnx, contract = make_model(score)
        identity = code.Code(revision="r", dirty=False, tree="t")
        run = Run(key=f"train-{score}", model="flights", first=interval, last=interval, overrides={}, code=identity)
        passed = verdict_on(sha256(onnx), sha256(contract), champion_of(self.book))
        for name, content in {
            "model/model.onnx": onnx,
            "model/contract.json": contract,
            "model/metrics.json": to_json({"training": "xgboost-test"}),
            "evaluation/smoke.json": b"[]\n",
            "evaluation/evaluation.json": to_json({"candidate": {"golden": {"auc": 0.7}}}),
            "gate/gate.json": to_json(passed),
            "dvc.lock": b"stages: {}\n",
            "dvc.yaml": b"stages: {}\n",
            RECORD: to_json(run.model_dump()),
        }.items():
            write_atomic(root / name, content)
        put_settings(root)
        register.put_model(root, self.store)
        return register.register(root, run, self.store)

    def promote(self, score: float, interval: str) -> int:
        number = self.register(score, interval)
        deploy.promote(interval, "test", self.book, self.store)
        deploy.deploy(self.book, self.store)
        return number

    def shown(self) -> dict[int, str]:
        """MLflow's versions and the digest that their tag says."""
        return {n: v.tags.get("airloop.onnx", "") for n, v in mlflow_registry.listed(self.client).items()}

    @property
    def client(self) -> MlflowClient:
        return mlflow_registry.client()

    def champion(self) -> str | None:
        model = mlflow_registry.registered_model(self.client)
        return None if model is None or "champion" not in model.aliases else str(model.aliases["champion"])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{root / 'mlflow.db'}",
        "--artifacts-destination",
        str(root / "files"),
    ]
    env = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    process = subprocess.Popen(command, cwd=root, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(f"http://127.0.0.1:{port}/health", 240)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def books(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Books]:
    """Two versions were promoted, one after the other."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    monkeypatch.setenv("AIRLOOP_STORE", url_of(tmp_path / "store"))
    monkeypatch.setenv("AIRLOOP_ONLINE_URL", "")
    environment.environment.cache_clear()
    if mlflow_registry.registered_model(mlflow_registry.client()):
        mlflow_registry.client().delete_registered_model("flights")
    made = Books(tmp_path)
    assert [made.promote(0.5, "2013-01"), made.promote(0.8, "2013-02")] == [1, 2]
    assert made.champion() == "2"
    yield made
    environment.environment.cache_clear()


def delete_tags(client: MlflowClient) -> None:
    for name in client.get_model_version("flights", "1").tags:
        client.delete_model_version_tag("flights", "1", name)


def put_another_in_its_place(client: MlflowClient) -> None:
    """Somebody's own model becomes version 1 of a registered model of this name."""
    known = client.get_model_version("flights", "2")
    client.delete_registered_model("flights")
    client.create_registered_model("flights")
    client.create_model_version("flights", known.source, model_id=known.source.removeprefix("models:/"),
                                tags={"airloop.onnx": "f" * 64})  # fmt: skip


def delete_experiment(client: MlflowClient) -> None:
    found = client.get_experiment_by_name("flights/train")
    assert found
    client.delete_experiment(found.experiment_id)
    client.delete_registered_model("flights")


def delete_all(client: MlflowClient) -> None:
    """The registered model, and what its versions were made from."""
    for found in mlflow_registry.listed(client).values():
        client.delete_logged_model(found.source.removeprefix("models:/"))
    client.delete_registered_model("flights")


# What is deleted, which numbers MLflow cannot show after that, and what is said of them.
DAMAGE: dict[str, tuple[Callable[[MlflowClient], object], set[int], str]] = {
    "the previous version": (lambda client: client.delete_model_version("flights", "1"), {1}, "v1 is gone from MLflow"),
    "the live version": (lambda client: client.delete_model_version("flights", "2"), {2}, "v2 is gone from MLflow"),
    "an alias": (lambda client: client.delete_registered_model_alias("flights", "champion"), set(), ""),
    "tags": (delete_tags, set(), ""),
    "the registered model": (lambda client: client.delete_registered_model("flights"), set(), ""),
    "the registered model and its runs' experiment": (delete_experiment, set(), ""),
    "the registered model and its files": (delete_all, set(), ""),
    "the registered model, with another in its place": (put_another_in_its_place, {1}, "version 1 of 'flights' is another"),
}  # fmt: skip


@pytest.mark.parametrize("action", ["promote", "rollback", "heal"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_whatever_is_deleted_the_next_decision_works(
    books: Books, damage: str, action: str, capfd: pytest.CaptureFixture[str]
) -> None:
    destroy, lost, said = DAMAGE[damage]
    before = {number: version.model for number, version in versions.read_all(books.store).items()}
    destroy(books.client)
    capfd.readouterr()
    live = 2
    if action == "promote":
        live = books.promote(1.1, "2013-03")
        assert live > 2, "a number that meant another model is never given again"
    elif action == "rollback":
        deploy.roll_back(1, "somebody", "the shadow was right", books.book, books.store)
        live = 1
    deploy.deploy(books.book, books.store)

    newest = books.book.latest()
    assert newest is not None and newest.to_version == live
    known = {number: version.model for number, version in versions.read_all(books.store).items()}
    assert known.items() >= before.items()
    right = {number for number, digest in books.shown().items() if known.get(number) == digest}
    assert right == known.keys() - lost
    assert books.champion() == (None if live in lost else str(live))
    warned = [line for line in capfd.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert len(warned) == len(lost) and all(said in line for line in warned)
    assert notices.sentences(books.store) == [line.removeprefix("warning: ") for line in warned]

    deploy.deploy(books.book, books.store)
    assert "warning" not in capfd.readouterr().err, "what was said once is not said at each heal"
    assert books.shown().keys() == right | ({1} if "another in its place" in damage else set())


def test_a_number_that_a_killed_registration_took_is_used_by_its_next_try(books: Books, monkeypatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(versions, "claim", killed)
        with pytest.raises(KeyboardInterrupt):
            books.register(1.1, "2013-03")
    assert books.shown().keys() == {1, 2, 3}
    assert books.register(1.1, "2013-03") == 3
    assert books.register(1.1, "2013-03") == 3
    assert books.shown().keys() == {1, 2, 3}


def test_a_step_that_a_killed_repair_left_is_taken_back(books: Books) -> None:
    first = books.client.get_model_version("flights", "1")
    wanted = {**first.tags, view.RESTORES: "2"}
    mlflow_registry.create(books.client, first.source, first.run_id, wanted)
    deploy.deploy(books.book, books.store)
    assert books.shown().keys() == {1, 2}
    assert notices.sentences(books.store) == []
    assert books.register(1.1, "2013-03") == 4, "MLflow gives 3 to no other model, and a number may be left out"


def test_a_store_older_than_mlflow_is_noticed_and_numbers_stay_apart(books: Books, capfd) -> None:
    """The store was restored from a backup of yesterday, MLflow was not."""
    newer = books.register(1.1, "2013-03")
    books.store.delete(f"versions/{newer:06d}.json")
    deploy.deploy(books.book, books.store)
    assert "MLflow has a version 3 of 'flights' that this store never registered" in capfd.readouterr().err
    assert books.promote(1.4, "2013-03") == 4
    assert books.champion() == "4"


def test_an_mlflow_older_than_the_store_gets_what_it_lacks(books: Books, capfd) -> None:
    """MLflow was restored from a backup of before v2, the store was not; there was a number that was left out, too."""
    books.client.delete_model_version("flights", "2")
    deploy.deploy(books.book, books.store)
    books.register(1.1, "2013-03")
    numbers = set(versions.read_all(books.store))
    client = books.client
    client.delete_registered_model("flights")
    client.create_registered_model("flights")
    one = versions.read(books.store, 1)
    uri, run_id = logged.find(client, one.run, one.model) or ("", "")
    mlflow_registry.create(client, uri, run_id, dict(one.tags))
    capfd.readouterr()
    deploy.deploy(books.book, books.store)
    assert books.shown().keys() == numbers
    assert books.champion() == "2"
    assert notices.sentences(books.store) == [], (
        "what was deleted from the registered model before this one is there again"
    )


def test_a_server_that_is_away_is_not_taken_for_one_that_lacks_something(books: Books, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    environment.environment.cache_clear()
    with pytest.raises(RegistryError, match=r"MLflow at http://127\.0\.0\.1:9 does not answer .*airloop up") as said:
        deploy.deploy(books.book, books.store)
    assert said.value.status is Status.WAITING, "a later try may succeed"
    assert notices.sentences(books.store) == []


@pytest.mark.parametrize(("status", "says"), [(401, "MLFLOW_TRACKING_USERNAME"), (403, "needs the right")])
def test_a_server_that_refuses_is_not_called_away(books: Books, monkeypatch, status: int, says: str) -> None:
    """A proxy with a login before MLflow: its answers are no JSON."""

    class Refuses(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/health" else status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Refuses) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}")
        environment.environment.cache_clear()
        with pytest.raises(RegistryError, match=rf"answers {status}.*{says}"):
            deploy.deploy(books.book, books.store)
        server.shutdown()
    assert notices.sentences(books.store) == []


def test_old_runs_go_but_for_those_of_registered_models(books: Books) -> None:
    """What `airloop gc` deletes in MLflow, and what it brings back before MLflow deletes for good."""
    client = books.client
    experiment = mlflow_registry.experiment(client, "flights/monitor")
    old = client.create_run(experiment, run_name="an interval").info.run_id
    known = {version.run_id for version in mlflow_registry.listed(client).values()}
    found = tracked.find(books.store.shared, Marked(), time.time() + 86400)
    assert any(old in item.name for item in found)
    assert not any(run_id in item.name for run_id in known for item in found)
    assert tracked.find(books.store.shared, Marked(), time.time() - 86400) == [], "it is young"
    for item in found:
        item.delete()
    assert client.get_run(old).info.lifecycle_stage == "deleted"

    for run_id in known:
        client.delete_run(run_id)
    assert tracked.bring_back(books.store.shared) == len(known)
    assert {client.get_run(run_id).info.lifecycle_stage for run_id in known} == {"active"}
    assert client.get_run(old).info.lifecycle_stage == "deleted"


def test_the_ledger_takes_no_second_model_under_a_number(books: Books) -> None:
    other = versions.read(books.store, 1).evidence.model_copy(update={"model": "f" * 64})
    with pytest.raises(Exception, match="a number means one model"):
        books.book.append(
            expect=2, action="rollback", to_version=1, effective_from="2013-03", who="t", why="t", evidence=other
        )


def test_a_number_that_only_the_ledger_remembers_is_not_given_again(books: Books) -> None:
    """A home from before the store kept the book, and somebody deleted the registered model in MLflow."""
    books.store.delete("versions/000002.json")
    delete_all(books.client)
    assert books.register(1.1, "2013-03") == 3
    assert set(versions.read_all(books.store)) == {1, 2, 3}
    deploy.deploy(books.book, books.store)
    assert books.shown().keys() == {1, 3}
    (said,) = notices.sentences(books.store)
    assert "v2 is gone from MLflow" in said


def test_a_version_without_its_files_is_noticed(books: Books) -> None:
    version = versions.read(books.store, 1)
    books.store.delete(version.file("run.json"))
    delete_all(books.client)
    books.client.create_registered_model("flights")
    deploy.deploy(books.book, books.store)
    (said,) = notices.sentences(books.store)
    assert said.startswith("v1 is not in MLflow and cannot be registered again: ") and "is missing" in said
    assert books.champion() == "2"
    assert json.loads(books.store.read(notices.NAME))["gone"] == []
