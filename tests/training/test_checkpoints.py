"""Checkpoints: whole or not there, found by digest, and never the reason why a training fails."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from tasks.core.urls import path_of, url_of
from tasks.settings.training_params import CheckpointParams
from tasks.storage.artefacts import Store, sha256
from tasks.training import checkpoints as module
from tasks.training.checkpoints import Checkpoints

ALWAYS = CheckpointParams(steps=1, seconds=3600, keep=2)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(url_of(tmp_path))


def put(kept: Checkpoints, *positions: int) -> None:
    for position in positions:
        kept.put(position, ".json", f"at {position}".encode)
        assert kept.flush()


def files(store: Store, training: str = "t") -> list[Path]:
    return sorted(p for p in Path(path_of(store.url), "checkpoints", training).glob("*"))


def test_the_newest_is_found_and_older_ones_are_pruned(store: Store) -> None:
    put(Checkpoints(store, "t", ALWAYS), 1, 20, 300)
    found = Checkpoints(store, "t", ALWAYS).latest()
    assert found is not None and (found.position, found.content) == (300, b"at 300")
    assert [path.name[:12] for path in files(store)] == ["000000000020", "000000000300"]


def test_another_training_s_are_not_found(store: Store) -> None:
    put(Checkpoints(store, "t", ALWAYS), 1)
    assert Checkpoints(store, "t2", ALWAYS).latest() is None


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def misname(path: Path) -> None:
    """What somebody copied there under a name that looks right."""
    path.rename(path.with_name(f"000000000009-{sha256(b'other')}.json"))


@pytest.mark.parametrize("damage", [truncate, flip, empty, misname])
def test_a_damaged_one_is_passed_over_with_a_warning(damage, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    put(Checkpoints(store, "t", ALWAYS), 1, 2)
    damage(files(store)[1])
    found = Checkpoints(store, "t", ALWAYS).latest()
    assert found is not None and found.position == 1
    assert capsys.readouterr().err.count("is damaged; an older one is used") == 1


def test_foreign_files_are_none_of_ours(store: Store) -> None:
    put(Checkpoints(store, "t", ALWAYS), 1)
    folder = files(store)[0].parent
    for name in ("README", ".nfs0001", f"{2:012d}-abc.json", f".{3:012d}-{'0' * 64}.json.12345678.partial"):
        (folder / name).write_bytes(b"x")
    (folder / "folder").mkdir()
    found = Checkpoints(store, "t", ALWAYS).latest()
    assert found is not None and found.position == 1


def test_damaged_ones_do_not_count_when_older_ones_are_pruned(store: Store) -> None:
    """Both of the newest are damaged: the one that is gone on from must not be pruned in their favour."""
    first = Checkpoints(store, "t", CheckpointParams(steps=1, seconds=1, keep=3))
    put(first, 1, 2, 3)
    for path in files(store)[1:]:
        flip(path)
    second = Checkpoints(store, "t", ALWAYS)
    assert (found := second.latest()) is not None and found.position == 1
    second.put(2, ".json", b"at 2, otherwise".lstrip)
    second.flush()
    assert (found := Checkpoints(store, "t", ALWAYS).latest()) is not None and found.position == 2


def test_all_damaged_is_a_beginning(store: Store) -> None:
    put(Checkpoints(store, "t", ALWAYS), 1)
    empty(files(store)[0])
    kept = Checkpoints(store, "t", ALWAYS)
    assert kept.latest() is None
    put(kept, 1)
    assert (found := Checkpoints(store, "t", ALWAYS).latest()) is not None and found.content == b"at 1"


class Broken(Store):
    """A store whose disk is full."""

    def write(self, name: str, data: bytes) -> str:
        raise OSError(28, "No space left on device", name)


def test_a_full_disk_is_said_once_and_at_the_end_and_ends_no_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = Checkpoints(Broken(url_of(tmp_path)), "t", ALWAYS)
    put(kept, 1, 2, 3)
    assert capsys.readouterr().err.count("No space left on device") == 1
    kept.clear()
    assert "3 of 3 checkpoints were not written, the last because OSError" in capsys.readouterr().err


def test_a_store_that_is_well_again_is_used_again(tmp_path: Path) -> None:
    kept = Checkpoints(Broken(url_of(tmp_path)), "t", ALWAYS)
    put(kept, 1)
    kept._store = Store(url_of(tmp_path))
    put(kept, 1)
    assert (kept.written, len(kept.lost)) == (1, 1)
    assert (found := Checkpoints(kept._store, "t", ALWAYS).latest()) is not None and found.position == 1


def test_a_store_that_cannot_be_read_is_no_reason_to_begin_anew(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    put(Checkpoints(store, "t", ALWAYS), 1)
    monkeypatch.setattr(store, "read", lambda name: (_ for _ in ()).throw(ConnectionError("away")))
    with pytest.raises(ConnectionError):
        Checkpoints(store, "t", ALWAYS).latest()


class Slow(Store):
    """A store that takes its time."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.go = threading.Event()

    def write(self, name: str, data: bytes) -> str:
        self.go.wait(10)
        return super().write(name, data)


def test_training_does_not_wait_for_a_write(tmp_path: Path) -> None:
    store = Slow(url_of(tmp_path))
    kept = Checkpoints(store, "t", ALWAYS)
    assert kept.due(1)
    kept.put(1, ".json", b"1".lstrip)
    assert not kept.due(2), "the one before is still being written"
    assert kept.waited < 0.05
    store.go.set()
    kept.flush()
    assert kept.due(2)


def test_a_store_that_hangs_holds_nobody_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAIT", 0.1)
    store = Slow(url_of(tmp_path))
    kept = Checkpoints(store, "t", ALWAYS)
    kept.put(1, ".json", b"1".lstrip)
    started = time.monotonic()
    kept.put(2, ".json", b"2".lstrip)
    assert not kept.flush()
    assert time.monotonic() - started < 2
    assert kept.lost == ["the one before was not written within 0 s"]
    store.go.set()


def test_it_is_due_after_steps_or_seconds(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    kept = Checkpoints(store, "t", CheckpointParams(steps=10, seconds=60, keep=2))
    assert (kept.due(9), kept.due(10)) == (False, True)
    now[0] += 60
    assert kept.due(1)
    put(kept, 1)
    assert not kept.due(2)


def test_cleared_leaves_nothing_not_even_what_a_kill_left_half_written(store: Store) -> None:
    kept = Checkpoints(store, "t", ALWAYS)
    put(kept, 1)
    (files(store)[0].parent / ".000000000002-x.json.12345678.partial").write_bytes(b"half")
    kept.clear()
    kept.clear()
    assert not files(store) and not Path(path_of(store.url), "checkpoints", "t").exists()


def test_tidying_up_in_a_store_that_is_away_fails_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def away(*_: object, **__: object) -> None:
        raise ConnectionError("away")

    monkeypatch.setattr(store._fs, "rm", away)
    put(kept := Checkpoints(store, "t", ALWAYS))
    kept.clear()
    assert capsys.readouterr().err.count("ConnectionError: away); `airloop gc` does it") == 1
