"""A backup of a home in use, restored into an empty one: whole or not at all, and never half a truth."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from local import backup, databases, kept, postgres, restore
from local.errors import LocalError
from tasks.core.urls import url_of
from tasks.landing import landed, landed_index
from tasks.registry import ledger, versions
from tasks.storage.artefacts import Store, sha256
from tests.postgres import forget, run, started

Homes = tuple[Path, pytest.MonkeyPatch]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("AIRLOOP_STORE", "AIRLOOP_DVC_REMOTE", "AIRLOOP_LANDING"):
        monkeypatch.delenv(name, raising=False)
    return at(tmp_path / "a home", monkeypatch)


def at(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIRLOOP_HOME", str(home))
    return home


def fill(home: Path) -> Store:
    """A home with a version that is live, an object of DVC's and a database."""
    store = Store(url_of(home / "store")).part("flights")
    promote(store, 1)
    (home / "remote/files/md5/ab").mkdir(parents=True)
    (home / "remote/files/md5/ab/cd").write_bytes(b"features")
    (home / "mlflow/artifacts/1").mkdir(parents=True)
    (home / "mlflow/artifacts/1/model").write_bytes(b"logged")
    return store


def promote(store: Store, number: int) -> None:
    """What register and deploy write, in their order."""
    onnx = f"model {number}".encode()
    model = sha256(onnx)
    store.write(f"models/{model}/model.onnx", onnx)
    record = versions.put_record(store, model, {"dvc.lock": b"stages: {}\n"})
    run = f"train-{number}"
    tags = {"run": run, "onnx": model, "contract": "c" * 64, "gate": "d" * 64, "data_through": "2013-03"}
    made = versions.claim(store, number, record, {f"airloop.{k}": v for k, v in tags.items()})
    assert made
    book = ledger.Ledger(store)
    book.append(
        expect=len(book.entries()),
        action="promote",
        to_version=number,
        effective_from="2013-04",
        who="t",
        why="t",
        evidence=made.evidence,
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_what_was_backed_up_is_in_the_new_home(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(home)
    backup.backup(tmp_path / "copy")
    secrets = (home / "secrets.json").read_bytes()
    new = at(tmp_path / "new", monkeypatch)
    restore.restore(tmp_path / "copy")
    for part in ("store", "remote", "mlflow"):
        assert contents(new / part) == contents(home / part), part
    assert (new / "secrets.json").read_bytes() == secrets
    assert (new / "secrets.json").stat().st_mode & 0o077 == 0
    assert not (new / "tmp/restoring").exists()


def land(store: Store, interval: str) -> None:
    record = landed.Landed(
        interval=interval, previous=interval, run="r", manifest="m", features=interval, counts={}, lock={}, state={}
    )
    assert landed.publish(store, record, lambda: "m")


@pytest.mark.parametrize(("meanwhile", "copied"), [("ledger", True), ("requests", False)])
def test_what_landed_while_it_was_copied_is_in_the_restored_index_if_its_record_is(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, meanwhile: str, copied: bool
) -> None:
    store = fill(home)
    store.write_json("requests/2013-01/x.json", {})
    for interval in ("2013-01", "2013-02"):
        land(store, interval)
    copy = kept.copy

    def landing_meanwhile(source: Path, target: Path) -> kept.Content:
        if meanwhile in source.parts and not store.exists("landed/2013-03.json"):
            land(store, "2013-03")
        return copy(source, target)

    monkeypatch.setattr(kept, "copy", landing_meanwhile)
    backup.backup(tmp_path / "copy")
    new = at(tmp_path / "new", monkeypatch)
    restore.restore(tmp_path / "copy")
    restored = Store(url_of(new / "store")).part("flights")
    assert restored.exists("landed/2013-03.json") == copied
    found = [item for item in landed_index.read(store) if copied or item.interval != "2013-03"]
    assert list(landed_index.opened(restored)) == found


@pytest.mark.parametrize("running", [True, False])
def test_the_databases_are_in_the_new_home_whether_they_ran_or_not(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, running: bool
) -> None:
    fill(home)
    with started(home):
        postgres.make_databases(home)
        run(home, "CREATE TABLE kept (x int)", "INSERT INTO kept VALUES (7)")
        if running:
            backup.backup(tmp_path / "copy")
    if not running:
        backup.backup(tmp_path / "copy")
        assert postgres.server(home) is None
    new = at(tmp_path / "new", monkeypatch)
    restore.restore(tmp_path / "copy")
    assert postgres.server(new) is None
    with started(new):
        assert run(new, "SELECT x FROM kept") == [(7,)]
    for one in (home, new):
        forget(one)


def test_a_home_of_an_older_airloop_is_not_backed_up_without_its_databases(home: Path, tmp_path: Path) -> None:
    fill(home)
    (home / postgres.OLD[1]).touch()
    with pytest.raises(LocalError, match="made by an older Airloop"):
        backup.backup(tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_ledger_that_grows_meanwhile_never_names_what_the_copy_lacks(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promotions go on while the copy is taken; each copy is of some moment of the ledger, with all that it names."""
    store, done = fill(home), threading.Event()

    def go_on() -> None:
        number = 2
        while not done.is_set():
            promote(store, number)
            number += 1

    writer = threading.Thread(target=go_on)
    writer.start()
    try:
        for turn in range(3):
            backup.backup(tmp_path / f"copy {turn}")
    finally:
        done.set()
        writer.join()
    for turn in range(3):
        at(tmp_path / f"new {turn}", monkeypatch)
        restore.restore(tmp_path / f"copy {turn}")
        copied = Store(url_of(tmp_path / f"new {turn}" / "store")).part("flights")
        known = versions.read_all(copied)
        assert {entry.to_version for entry in ledger.Ledger(copied).entries()} <= known.keys()
        for version in known.values():
            copied.read(f"models/{version.model}/model.onnx", version.model)
            copied.read(version.file("dvc.lock"))


@pytest.mark.parametrize("damage", ["altered", "cut", "missing", "no manifest"])
def test_a_damaged_backup_restores_nothing(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    fill(home)
    backup.backup(tmp_path / "copy")
    victim = next((tmp_path / "copy/store/flights/models").rglob("model.onnx"))
    content = victim.read_bytes()
    if damage == "altered":
        victim.write_bytes(content[:-1] + b"!")
    elif damage == "cut":
        victim.write_bytes(content[:-1])
    elif damage == "missing":
        victim.unlink()
    else:
        (tmp_path / "copy" / kept.MANIFEST).unlink()
    new = at(tmp_path / "new", monkeypatch)
    with pytest.raises(LocalError, match="no whole backup" if damage == "no manifest" else r"damaged: .*model\.onnx"):
        restore.restore(tmp_path / "copy")
    assert not [path for path in new.rglob("*") if path.is_file() and path.name not in ("secrets.json", kept.LOCK)]


@pytest.mark.parametrize("part", ["store/flights/ledger/000001.json", "remote/x", "airflow/airflow.db"])
def test_a_restore_refuses_a_home_that_holds_something(home: Path, tmp_path: Path, monkeypatch, part: str) -> None:
    fill(home)
    backup.backup(tmp_path / "copy")
    new = at(tmp_path / "new", monkeypatch)
    (new / part).parent.mkdir(parents=True)
    (new / part).write_text("mine")
    with pytest.raises(LocalError, match="is there already"):
        restore.restore(tmp_path / "copy")
    assert (new / part).read_text() == "mine"


def test_a_restore_refuses_a_home_that_is_in_use(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(home)
    backup.backup(tmp_path / "copy")
    new = at(tmp_path / "new", monkeypatch)
    from local.processes import MARK

    command = [sys.executable, "-c", "import time; print(1, flush=True); time.sleep(600)"]
    process = subprocess.Popen(command, env={MARK: str(new)}, stdout=subprocess.PIPE)
    try:
        assert process.stdout and process.stdout.readline()
        with pytest.raises(LocalError, match=r"1 processes of .* run"):
            restore.restore(tmp_path / "copy")
    finally:
        process.kill()
        process.wait()
    assert not (new / "store").exists()


def test_what_fails_late_leaves_an_empty_home(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(home)
    backup.backup(tmp_path / "copy")
    new = at(tmp_path / "new", monkeypatch)

    def fails(*_: object) -> None:
        raise LocalError("pg_restore failed")

    with monkeypatch.context() as patched:
        patched.setattr(databases, "put_back", fails)
        with pytest.raises(LocalError, match="pg_restore failed"):
            restore.restore(tmp_path / "copy")
    restore.restore(tmp_path / "copy")
    assert contents(new / "store") == contents(home / "store")


def test_a_backup_mixes_with_nothing(home: Path, tmp_path: Path) -> None:
    fill(home)
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(LocalError, match="is not empty"):
        backup.backup(tmp_path)
    with pytest.raises(LocalError, match="lies in a folder that is copied"):
        backup.backup(home / "store/copy")


def test_a_store_elsewhere_is_said(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRLOOP_STORE", "s3://bucket/store")
    with pytest.raises(LocalError, match=r"AIRLOOP_STORE=s3://bucket/store is not on this machine.*runbook"):
        backup.backup(tmp_path / "copy")


def test_two_at_once_do_not_meet(home: Path, tmp_path: Path) -> None:
    fill(home)
    with kept.alone(home), pytest.raises(LocalError, match="is at work"):
        backup.backup(tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_what_names_other_files_is_copied_before_them_whichever_model_it_belongs_to(tmp_path: Path) -> None:
    for name in ("code/a.tar.gz", "cards/models/x", "cards/ledger/1", "flights/models/y", "flights/versions/1"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    order = [name for name, _ in kept.files(kept.Part("store", tmp_path))]
    assert [name.removeprefix("store/") for name in order] == [
        "cards/ledger/1", "flights/versions/1", "cards/models/x", "flights/models/y", "code/a.tar.gz",
    ]  # fmt: skip
