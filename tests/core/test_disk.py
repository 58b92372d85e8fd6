"""File systems without hard links or synced folders: what is written is whole, and only one writer is first."""

from __future__ import annotations

import errno
import multiprocessing
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from local import keys
from tasks.core.urls import url_of
from tasks.storage.artefacts import Store, write_atomic


def lacking(number: int) -> Any:
    def call(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return call


NUMBERS = sorted({errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EINVAL})


@pytest.mark.parametrize("number", NUMBERS, ids=[errno.errorcode[number] for number in NUMBERS])
def test_without_hard_links_the_first_writer_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(os, "link", lacking(number))
    store = Store(url_of(tmp_path))
    assert store.create("ledger/000001.json", b"first") and not store.create("ledger/000001.json", b"second")
    assert store.read("ledger/000001.json") == b"first"
    assert store.names("ledger") == ["ledger/000001.json"], "neither lock nor unfinished file is an entry"
    assert keys.load(tmp_path / "home") == keys.load(tmp_path / "home")


def test_another_failure_of_a_link_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", lacking(errno.EIO))
    with pytest.raises(OSError, match="Input/output"):
        Store(url_of(tmp_path)).create("ledger/000001.json", b"first")
    assert Store(url_of(tmp_path)).names("ledger") == []


def _race(folder: str, number: int, barrier: Any, wins: Any) -> None:
    os.link = lacking(errno.EPERM)
    store = Store(folder)
    for turn in range(40):
        barrier.wait()
        if store.create(f"ledger/{turn:03d}", str(number).encode() * 10_000):
            wins.put((turn, number))


def test_without_hard_links_one_of_four_processes_is_first_and_its_entry_is_whole(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, wins = context.Barrier(4), context.Queue()
    writers = [context.Process(target=_race, args=(url_of(tmp_path), n, barrier, wins)) for n in range(4)]
    for writer in writers:
        writer.start()
    won = dict(wins.get(timeout=60) for _ in range(40))
    for writer in writers:
        writer.join()
    store = Store(url_of(tmp_path))
    assert sorted(won) == list(range(40)) and wins.empty()
    assert all(store.read(f"ledger/{turn:03d}") == str(number).encode() * 10_000 for turn, number in won.items())


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EBADF])
def test_a_folder_that_cannot_be_synced_is_written_to_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    sync = os.fsync

    def only_files(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", only_files)
    write_atomic(tmp_path / "a", b"1")
    assert (tmp_path / "a").read_bytes() == b"1" and [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_disk_that_is_broken_is_not_taken_for_one_that_lacks_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lacking(errno.EIO))
    with pytest.raises(OSError, match="Input/output"):
        write_atomic(tmp_path / "a", b"1")
