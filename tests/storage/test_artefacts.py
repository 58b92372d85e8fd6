"""The store shows whole objects only, on a folder and on an object store alike."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from tasks.core.errors import ConfigError, DataError
from tasks.core.urls import url_of
from tasks.storage import artefacts
from tasks.storage.artefacts import Store, sha256, to_json


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(url_of(tmp_path) if request.param == "folder" else f"memory://{tmp_path}")


def test_round_trip_and_listing(store: Store) -> None:
    assert store.names("a") == []
    store.write("a/b/c.json", b"1")
    store.write("a/b/c.json", b"2")
    assert (store.read("a/b/c.json"), store.names("a"), store.exists("a/x")) == (b"2", ["a/b/c.json"], False)


def test_a_wrong_digest_is_refused(store: Store) -> None:
    digest = store.write("m", b"model")
    assert store.read("m", digest) == b"model"
    with pytest.raises(DataError, match="changed or damaged"):
        store.read("m", sha256(b"other"))


def test_create_does_not_overwrite(store: Store) -> None:
    assert store.create("l/1", b"first")
    assert not store.create("l/1", b"second")
    assert (store.read("l/1"), store.names("l")) == (b"first", ["l/1"])


def test_an_empty_folder_that_the_store_lists_is_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """As SeaweedFS does once all that was in it is deleted."""
    monkeypatch.setattr(store._fs, "exists", lambda path: True)
    entry = {store._path("a"): {"type": "directory", "size": 0}}
    monkeypatch.setattr(store._fs, "find", lambda path, detail=False: entry if detail else list(entry))
    assert (store.names("a"), store.details("a")) == ([], {})


class RefusalError(Exception):
    """botocore's ClientError, as far as s3fs hands it on."""

    def __init__(self, status: int) -> None:
        self.response = {"ResponseMetadata": {"HTTPStatusCode": status}}


@pytest.mark.parametrize(("status", "first"), [(412, False), (503, None)])
def test_a_store_that_does_not_name_the_failed_condition_lost_the_race_all_the_same(
    status: int, first: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store("memory://race")

    def pipe_file(*_: object, **__: object) -> None:
        raise OSError(errno.EINVAL, "At least one of the pre-conditions you specified did not hold") from RefusalError(
            status
        )

    monkeypatch.setattr(artefacts, "_PROVEN", {store.url})
    monkeypatch.setattr(store._fs, "pipe_file", pipe_file)
    if first is None:
        with pytest.raises(OSError, match="pre-conditions"):
            store.create("l/1", b"mine")
    else:
        assert store.create("l/1", b"mine") is first


def test_absent_is_file_not_found(store: Store) -> None:
    with pytest.raises(FileNotFoundError):
        store.read("nothing")


def test_json_is_canonical_and_refuses_nan() -> None:
    assert to_json({"b": 1, "a": 2}) == to_json({"a": 2, "b": 1})
    with pytest.raises(ValueError, match="Out of range"):
        to_json({"auc": float("nan")})


def test_a_store_that_ignores_only_if_absent_is_refused_before_it_loses_anything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = Store("memory://careless")
    put = store._fs.pipe_file
    monkeypatch.setattr(store._fs, "pipe_file", lambda path, data, mode="overwrite": put(path, data))
    store.write("ledger/1", b"first")
    with pytest.raises(ConfigError, match="If-None-Match"):
        store.create("ledger/1", b"second")
    assert store.read("ledger/1") == b"first" and store.names("probe") == []
