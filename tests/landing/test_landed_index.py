"""The index of landed intervals: nothing that lands is lost, whoever lands beside it or is killed, and no reader walks all of it."""

from __future__ import annotations

import json
import multiprocessing as mp
import multiprocessing.synchronize
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import publish
from tasks.core.errors import DataError
from tasks.core.urls import url_of
from tasks.intervals.cadence import Daily
from tasks.landing import landed, landed_index
from tasks.landing.landed_index import IN_HEAD
from tasks.settings.environment import CODE
from tasks.storage.artefacts import Store, sha256
from tasks.storage.state_file import StateFile
from tests.airflow_home import ROOT

DAYS = Daily().span("2013-01-01", "2016-12-31")
OLD = ROOT / "tests/stores/of_35770e8/flights"


def record(interval: str, *, tail: str = "one", used: str = "one", features: str = "f") -> landed.Landed:
    """An interval whose own tail has digest ``tail``, and whose features looked back on one with digest ``used``."""
    previous = interval if interval == DAYS[0] else Daily().shift(interval, -1)
    lock: dict[str, Any] = {
        f"validate@{interval}": {"outs": [{"path": f"data/tail/{interval}", "md5": tail}]},
        f"features@{interval}": {"deps": [{"path": f"data/tail/{previous}", "md5": used}], "outs": []},
    }
    state = {"rows": StateFile(name=f"state/{interval}-{features}-rows.parquet", sha256=features)}
    return landed.Landed(
        interval=interval, previous=previous, run="r", manifest=features, features=features, counts={}, lock=lock, state=state
    )  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(url_of(tmp_path / "store"))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads and chunks of a few intervals."""
    monkeypatch.setattr(landed_index, "IN_HEAD", 3)
    monkeypatch.setattr(landed_index, "IN_CHUNK", 5)


def keys(items: Iterator[landed_index.Item] | list[landed_index.Item]) -> list[str]:
    return [item.interval for item in items]


@settings(max_examples=60, deadline=None)
@given(
    order=st.lists(st.integers(0, 60), max_size=90),
    asked=st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(1, 9)),
)
def test_it_answers_as_all_records_do_in_whatever_order_they_land(
    order: list[int], asked: tuple[int, int, int]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(landed_index, "IN_HEAD", 3)
        patch.setattr(landed_index, "IN_CHUNK", 5)
        store = InMemory()
        expected: dict[str, str] = {}
        for turn, day in enumerate(order):
            item = item_of(DAYS[day], features=str(turn))
            landed_index.add(store, item)
            expected[item.interval] = item.features
        index = landed_index.read(store)
        assert {item.interval: item.features for item in index} == expected
        assert keys(iter(index)) == sorted(expected) and len(index) == len(expected)
        assert index.newest == max(expected, default=None)
        first, last, count = DAYS[asked[0]], DAYS[asked[1]], asked[2]
        assert keys(index.between(first, last)) == [key for key in sorted(expected) if first <= key <= last]
        assert keys(index.last(count)) == sorted(expected)[-count:]
        assert keys(index.last(count, first)) == [key for key in sorted(expected) if key < first][-count:]
        assert (first in index) == (first in expected)
        assert all(chunk.count <= 5 for chunk in index.head.chunks) and len(index.head.newest) <= 2 * 3


class InMemory(Store):
    """A store of a dictionary, for many small examples."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def uri(self, name: str) -> str:
        return name

    def read(self, name: str, sha256_hex: str | None = None) -> bytes:
        if name not in self.files:
            raise FileNotFoundError(name)
        assert sha256_hex in (None, sha256(self.files[name]))
        return self.files[name]

    def write(self, name: str, data: bytes) -> str:
        self.files[name] = data
        return sha256(data)

    def create(self, name: str, data: bytes) -> bool:
        return self.files.setdefault(name, data) is data

    def names(self, prefix: str) -> list[str]:
        return sorted(name for name in self.files if name.startswith(f"{prefix}/"))


def item_of(interval: str, *, features: str, number: int = 0) -> landed_index.Item:
    return landed_index.Item(
        interval=interval, previous=interval, number=number, record="r", features=features, tail=None, used=None, state={}
    )  # fmt: skip


class Counted(Store):
    """A store that counts what is asked of it."""

    asked: list[str]

    def read(self, name: str, sha256_hex: str | None = None) -> bytes:
        self.asked.append(name)
        return super().read(name, sha256_hex)

    def names(self, prefix: str) -> list[str]:
        self.asked.append(f"{prefix}/*")
        return super().names(prefix)


def test_a_poll_reads_the_pointer_and_looks_for_the_next_landing_alone(store: Store, small: None) -> None:
    for day in DAYS[:50]:
        landed.write(store, record(day))
    counted = Counted(store.url)
    counted.asked = []
    known = landed_index.opened(counted)
    assert counted.asked == ["index/head.json", "index/log/00000051.json"], "no chunk either"
    assert landed_index.opened(counted, known) is known
    assert counted.asked[2:] == ["index/head.json", "index/log/00000051.json"]
    landed.write(store, record(DAYS[50]))
    again = landed_index.opened(counted, known)
    assert again is not known and (again.newest, len(again)) == (DAYS[50], 51)


def test_the_newest_need_no_chunk(store: Store) -> None:
    for day in DAYS[: 3 * IN_HEAD]:
        landed_index.add(store, item_of(day, features="f"))
    index = landed_index.read(store)
    assert index.head.chunks
    store.delete_all("index/chunks")
    assert keys(index.last(IN_HEAD)) == DAYS[2 * IN_HEAD : 3 * IN_HEAD]
    with pytest.raises(DataError, match=r"chunks/.*it is missing.*Delete the folder .*index"):
        index.last(3 * IN_HEAD)


def test_a_chunk_that_was_changed_is_refused(store: Store, small: None) -> None:
    for day in DAYS[:20]:
        landed_index.add(store, item_of(day, features="f"))
    index = landed_index.read(store)
    name = index.head.chunks[0].name
    store.write(name, store.read(name).replace(b'"f"', b'"g"'))
    with pytest.raises(DataError, match=r"has sha256.*Delete the folder .*index"):
        index.get(DAYS[0])


@pytest.mark.parametrize("content", [b"{", b'{"schema": 2}'])
def test_a_head_that_cannot_be_read_is_said_with_the_way_out(store: Store, content: bytes) -> None:
    landed.write(store, record(DAYS[0]))
    store.write("index/head.json", content)
    with pytest.raises(DataError, match=r"(?s)head.json.*Delete the folder .*index"):
        landed_index.read(store)
    store.delete_all("index")
    assert DAYS[0] in landed_index.opened(store)


def _publish(url: str, turn: int, start: multiprocessing.synchronize.Barrier) -> None:
    store = Store(url)
    start.wait()
    for day in DAYS[turn:80:2]:
        assert landed.publish(store, record(day), lambda: "f")


def test_of_two_publishers_at_once_both_are_in_it_every_time(store: Store) -> None:
    context = mp.get_context("spawn")
    start = context.Barrier(2)
    publishers = [context.Process(target=_publish, args=(store.url, turn, start)) for turn in range(2)]
    for publisher in publishers:
        publisher.start()
    for publisher in publishers:
        publisher.join()
    assert [publisher.exitcode for publisher in publishers] == [0, 0]
    index = landed_index.read(store)
    assert keys(iter(index)) == DAYS[:80] and len(index) == 80
    assert len(store.names("index/log")) == 80, "each was entered once"
    store.delete("index/head.json")
    assert list(landed_index.read(store)) == list(index), "and it is what the records say"


KILLED = """
import os, signal, sys
from tasks.landing import landed
from tasks.storage.artefacts import Store

def die(before):
    def or_die(self, name, data):
        if name.startswith(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        return before(self, name, data)
    return or_die

Store.write, Store.create = die(Store.write), die(Store.create)
record = landed.Landed.model_validate_json(sys.argv[3])
landed.publish(Store(sys.argv[1]), record, lambda: record.manifest)
"""


def killed(store: Store, before: str, one: landed.Landed) -> None:
    """A process that publishes ``one`` and is killed before it writes what begins with ``before``."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, store.url, before, one.model_dump_json()], cwd=CODE, check=False, capture_output=True
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


@pytest.mark.parametrize(
    ("before", "again"),
    [
        *((before, again) for before in ("index/log", "index/head", "landed/") for again in (False, True)),
        ("index/chunks", False),  # a correction adds no interval
    ],
)
def test_a_publisher_that_is_killed_anywhere_is_put_right_by_the_next_try(
    store: Store, before: str, again: bool
) -> None:
    for day in DAYS[: 2 * IN_HEAD]:  # the next one fills the head
        landed.publish(store, record(day), lambda: "f")
    one = record(DAYS[4], features="corrected") if again else record(DAYS[2 * IN_HEAD])
    killed(store, before, one)
    index = landed_index.read(store)
    assert keys(iter(index))[: 2 * IN_HEAD] == DAYS[: 2 * IN_HEAD], "what had landed stays"
    in_it = one.interval in index and index[one.interval].features == one.features
    assert in_it == (before != "index/log"), "a landing that the log has is landed, whatever the head says"
    if before == "index/head":
        landed.publish(store, record(DAYS[90]), lambda: "f")
        entered = json.loads(store.read("index/head.json"))["entered"]
        assert entered == len(store.names("index/log")), "the next landing brings the head up to date"
        assert landed_index.read(store)[one.interval] == index[one.interval]
    assert landed.publish(store, one, lambda: one.manifest)
    index = landed_index.read(store)
    assert index[one.interval].features == one.features
    assert landed.read(store, one.interval) == one
    assert index[one.interval].record == sha256(store.read(landed.name(one.interval)))
    assert len({item.interval for item in index}) == len(index)


def test_a_head_that_a_slow_writer_took_back_costs_no_landing(store: Store) -> None:
    landed.write(store, record(DAYS[0]))
    slow = store.read("index/head.json")
    for day in DAYS[1:5]:
        landed.write(store, record(day))
    store.write("index/head.json", slow)
    assert keys(iter(landed_index.read(store))) == DAYS[:5]
    landed.write(store, record(DAYS[5]))
    assert json.loads(store.read("index/head.json"))["entered"] == 6


def test_an_older_publication_never_takes_a_newer_one_s_place(store: Store) -> None:
    for number, features in ((2, "new"), (1, "old")):
        landed_index.add(store, item_of(DAYS[0], features=features, number=number))
    assert landed_index.read(store)[DAYS[0]].features == "new"
    assert len(store.names("index/log")) == 1


def test_a_store_of_an_older_version_is_read_without_writing(tmp_path: Path) -> None:
    shutil.copytree(OLD, tmp_path / "old")
    for path in (tmp_path / "old").rglob("*"):
        path.chmod(stat.S_IRUSR | (stat.S_IXUSR if path.is_dir() else 0))
    old = Store(url_of(tmp_path / "old"))
    before = sorted((tmp_path / "old").rglob("*"))
    index = landed_index.read(old)
    assert (index.newest, len(index)) == ("2013-01", 1)
    assert index["2013-01"].record == sha256(old.read("landed/2013-01.json"))
    assert index["2013-01"].number == 0 and index["2013-01"].features == "0" * 32
    assert publish.stale("2013-01", old) == []
    assert sorted((tmp_path / "old").rglob("*")) == before


def test_a_store_of_an_older_version_gets_its_index_by_whoever_writes_first(tmp_path: Path) -> None:
    shutil.copytree(OLD, tmp_path / "old")
    old = Store(url_of(tmp_path / "old"))
    before = {name: old.read(name) for name in old.names("landed")}
    assert keys(iter(landed_index.opened(old))) == ["2013-01"]
    assert old.exists("index/head.json")
    assert {name: old.read(name) for name in old.names("landed")} == before


def test_a_record_that_the_index_lacks_is_entered_by_the_next_try(store: Store) -> None:
    landed.publish(store, record(DAYS[0]), lambda: "f")
    one = record(DAYS[1])
    for name in (f"published/{DAYS[1]}/000001.json", landed.name(DAYS[1])):  # as an older version wrote them
        store.write_json(name, one.model_dump())
    assert DAYS[1] not in landed_index.read(store)
    assert landed.publish(store, one, lambda: "f")
    assert landed_index.read(store)[DAYS[1]].number == 1


def test_an_index_is_built_again_of_many_records_and_what_was_published(store: Store, small: None) -> None:
    for day in DAYS[:30]:
        landed.publish(store, record(day), lambda: "f")
    landed.publish(store, record(DAYS[3], features="corrected"), lambda: "corrected")
    index = list(landed_index.read(store))
    assert [item.number for item in index] == [1, 1, 1, 2, *[1] * 26]
    store.delete("index/head.json")
    assert list(landed_index.read(store)) == index
    store.delete_all("index")
    assert list(landed_index.opened(store)) == index
    assert landed_index.read(store).head.chunks, "in chunks"
