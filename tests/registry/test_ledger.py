"""The ledger: append-only, chained, one writer wins, history is never rewritten."""

from __future__ import annotations

import json
import multiprocessing as mp
import multiprocessing.synchronize
import shutil
from pathlib import Path

import pytest

from tasks.core.errors import DataError, Unavailable
from tasks.core.urls import url_of
from tasks.landing import landed
from tasks.registry.ledger import Entry, Evidence, Ledger, LedgerError, SupersededError, live_at, previous_at
from tasks.running.runs import Run
from tasks.storage.artefacts import Store, sha256
from tests.airflow_home import ROOT

OLD = ROOT / "tests/stores/of_35770e8"
"""What that revision's own code wrote, below the folder that its model has now."""


def evidence(name: str = "a", through: str = "2013-03") -> Evidence:
    return Evidence(
        model=name * 64,
        contract="c" * 64,
        run=f"train-{name}",
        data_through=through,
        labelled_through=through,
        verdict="d" * 64,
        policy=None,
    )


@pytest.fixture
def book(tmp_path: Path) -> Ledger:
    return Ledger(Store(url_of(tmp_path)))


def promote(book: Ledger, version: int, interval: str, name: str, through: str) -> None:
    book.append(
        expect=len(book.entries()),
        action="promote",
        to_version=version,
        effective_from=interval,
        who="t",
        why="t",
        evidence=evidence(name, through),
    )


def test_champion_is_the_one_effective_in_the_interval(book: Ledger) -> None:
    promote(book, 1, "2013-04", "a", "2013-03")
    promote(book, 2, "2013-05", "b", "2013-04")
    versions = {
        m: e.to_version if (e := live_at(book.entries(), m)) else None
        for m in ("2013-03", "2013-04", "2013-05", "2014-01")
    }
    assert versions == {"2013-03": None, "2013-04": 1, "2013-05": 2, "2014-01": 2}


def test_previous_is_the_last_other_version(book: Ledger) -> None:
    promote(book, 1, "2013-04", "a", "2013-03")
    promote(book, 2, "2013-05", "b", "2013-04")
    book.append(
        expect=2, action="rollback", to_version=1, effective_from="2013-06", who="t", why="t", evidence=evidence("a")
    )
    entries = book.entries()
    assert [p.to_version if (p := previous_at(entries, m)) else None for m in ("2013-04", "2013-05", "2013-06")] == [
        None,
        1,
        2,
    ]


def test_a_revert_to_nothing_takes_the_only_version_out(book: Ledger) -> None:
    promote(book, 1, "2013-04", "a", "2013-03")
    book.append(
        expect=1, action="revert", to_version=None, effective_from="2013-04", who="t", why="smoke", evidence=None
    )
    assert live_at(book.entries(), "2013-04") is None


def test_a_retry_adds_nothing(book: Ledger) -> None:
    promote(book, 1, "2013-04", "a", "2013-03")
    promote(book, 1, "2013-04", "a", "2013-03")
    assert len(book.entries()) == 1


def test_history_is_not_rewritten(book: Ledger) -> None:
    promote(book, 1, "2013-05", "a", "2013-04")
    with pytest.raises(LedgerError, match="history is not rewritten"):
        promote(book, 2, "2013-04", "b", "2013-04")


def test_an_older_model_is_never_promoted_but_can_be_rolled_back_to(book: Ledger) -> None:
    promote(book, 2, "2013-05", "b", "2013-04")
    with pytest.raises(LedgerError, match="older model is never promoted"):
        promote(book, 3, "2013-05", "c", "2013-03")
    book.append(
        expect=1,
        action="rollback",
        to_version=1,
        effective_from="2013-05",
        who="t",
        why="t",
        evidence=evidence("a", "2013-03"),
    )
    assert [e.to_version for e in book.entries()] == [2, 1]


@pytest.mark.parametrize("damage", ["alter", "remove", "garbage"])
def test_damage_stops_everything(book: Ledger, tmp_path: Path, damage: str) -> None:
    promote(book, 1, "2013-04", "a", "2013-03")
    promote(book, 2, "2013-05", "b", "2013-04")
    first = tmp_path / "ledger/000001.json"
    if damage == "alter":
        first.write_text(json.dumps(json.loads(first.read_text()) | {"who": "mallory"}))
    elif damage == "remove":
        first.unlink()
    else:
        first.write_text("{")
    with pytest.raises(DataError):
        book.entries()


def _race(url: str, version: int, start: mp.synchronize.Barrier, wins: mp.Queue[int]) -> None:
    start.wait()
    try:
        promote(Ledger(Store(url)), version, "2013-04", chr(96 + version), "2013-03")
        wins.put(version)
    except LedgerError:
        pass


def test_of_two_writers_at_once_the_chain_survives(tmp_path: Path) -> None:
    context = mp.get_context("spawn")
    barrier, wins = context.Barrier(4), context.Queue()
    writers = [context.Process(target=_race, args=(url_of(tmp_path), n, barrier, wins)) for n in range(1, 5)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    won = {wins.get(timeout=5) for _ in range(len(list(tmp_path.glob("ledger/*.json"))))}
    entries = Ledger(Store(url_of(tmp_path))).entries()
    assert {entry.to_version for entry in entries} == won and wins.empty()


@pytest.fixture
def old(tmp_path: Path) -> Store:
    """A copy of the store of version 1."""
    shutil.copytree(OLD, tmp_path / "store")
    return Store(url_of(tmp_path / "store")).part("flights")


def test_entries_of_version_1_are_read(old: Store) -> None:
    entries = Ledger(old).entries()
    assert [(e.seq, e.action, e.from_version, e.to_version, e.effective_from) for e in entries] == [
        (1, "promote", None, 1, "2013-04"),
        (2, "promote", 1, 2, "2013-05"),
        (3, "revert", 2, 1, "2013-05"),
        (4, "rollback", 1, 2, "2013-06"),
    ]
    assert {e.model for e in entries} == {"flights"}
    found = [e.evidence for e in entries if e.evidence]
    assert [(e.verdict, e.policy) for e in found] == [*[("d" * 64, None)] * 3, (None, None)]
    assert all(e.labelled_through == e.data_through for e in found)


def test_an_entry_of_version_2_follows_those_of_version_1_whose_bytes_stay(old: Store) -> None:
    before = {name: old.read(name) for name in old.names("ledger")}
    book = Ledger(old)
    book.append(
        expect=4,
        action="rollback",
        to_version=1,
        effective_from="2013-07",
        who="t",
        why="t",
        evidence=book.entries()[0].evidence,
    )
    entry = book.entries()[-1]
    assert entry.previous_digest == sha256(before["ledger/000004.json"])
    assert json.loads(old.read("ledger/000005.json"))["schema"] == 2
    assert {name: old.read(name) for name in before} == before


def test_the_old_ledger_s_rules_hold_for_what_follows(old: Store) -> None:
    with pytest.raises(LedgerError, match="a number means one model"):
        Ledger(old).append(
            expect=4,
            action="rollback",
            to_version=1,
            effective_from="2013-07",
            who="t",
            why="t",
            evidence=evidence("f"),
        )
    with pytest.raises(LedgerError, match="saw labels through 2013-03, the champion v2 through 2013-04"):
        promote(Ledger(old), 3, "2013-07", "f", "2013-03")


def test_other_records_of_version_1_are_read(old: Store) -> None:
    record = landed.read(old, "2013-01")
    assert record is not None and (record.interval, record.previous) == ("2013-01", "2013-01")
    assert record.output("features", "data/features/2013-01.parquet") == "0" * 32
    run = Run.model_validate_json(old.read("runs/ingest-2013-01-12345678/run.json"))
    assert (run.first, run.last) == ("2013-01", "2013-01")


def test_what_is_written_says_its_version(book: Ledger, tmp_path: Path) -> None:
    promote(book, 1, "2013-04", "a", "2013-03")
    written = json.loads((tmp_path / "ledger/000001.json").read_text())
    assert (written["schema"], written["payload"], written["signature"]) == (2, None, None)
    assert len(written["nonce"]) == 32


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": 3}, "schema=3 is of a newer version of Airloop"),
        ({"schema": "2"}, "schema='2' is of a newer version"),
        ({"model": "parcels"}, "it is of the ledger of 'parcels'"),
        ({"action": "Promote!"}, "action"),
        ({"signed_by": "x"}, "signed_by"),
    ],
)
def test_an_entry_that_this_version_cannot_trust_stops_everything(
    old: Store, change: dict[str, object], said: str
) -> None:
    promote(Ledger(old), 3, "2013-07", "f", "2013-05")
    name = "ledger/000005.json"
    old.write_json(name, json.loads(old.read(name)) | change)
    with pytest.raises(DataError, match=said):
        Ledger(old).entries()


def test_an_action_that_later_code_adds_says_what_is_live_like_any_other(old: Store) -> None:
    promote(Ledger(old), 3, "2013-07", "f", "2013-05")
    name = "ledger/000005.json"
    old.write_json(name, json.loads(old.read(name)) | {"action": "set_traffic", "payload": "a" * 64})
    entries = Ledger(old).entries()
    assert live_at(entries, "2013-07") == entries[-1]
    assert entries[-1].payload == "a" * 64


def test_an_action_that_nobody_knows_is_not_written(book: Ledger) -> None:
    with pytest.raises(LedgerError, match="action='bless' is no kind of entry; use promote, rollback, revert"):
        book.append(
            expect=0, action="bless", to_version=1, effective_from="2013-04", who="t", why="t", evidence=evidence()
        )


def decide(book: Ledger, expect: int, version: int, name: str) -> Entry:
    return book.append(
        expect=expect, action="rollback", to_version=version, effective_from="2013-05", who="ann", why="nonsense",
        evidence=evidence(name),
    )  # fmt: skip


@pytest.mark.parametrize("expect", [0, 1, 3])
def test_a_decision_about_an_entry_that_is_not_the_newest_loses(book: Ledger, expect: int) -> None:
    promote(book, 1, "2013-04", "a", "2013-03")
    promote(book, 2, "2013-05", "b", "2013-03")
    with pytest.raises(SupersededError, match=r"is not the newest any more: .*(entry 2, a promote to v2 by t|shorter)"):
        decide(book, expect, 3, "c")
    assert len(book.entries()) == 2
    assert decide(book, 2, 3, "c").seq == 3


def test_who_waits_sees_that_its_entry_is_superseded(book: Ledger) -> None:
    promote(book, 1, "2013-04", "a", "2013-03")
    book.require_newest(1)
    decide(book, 1, 2, "b")
    with pytest.raises(
        SupersededError, match=r"Ledger entry 1 \(v1\) is not the newest any more: entry 2, a rollback to v2 by ann"
    ):
        book.require_newest(1)


class Unclear(Store):
    """A store whose answer to the next write is lost: on the way there, or back, or it was sent again by the library."""

    def __init__(self, url: str, how: str) -> None:
        super().__init__(url)
        self.how = how

    def create(self, name: str, data: bytes) -> bool:
        how, self.how = self.how, ""
        if how == "somebody else wrote":
            decide(Ledger(Store(self.url)), 1, 2, "b")
        if how in ("lost on the way back", "sent again"):
            assert super().create(name, data)
        if how in ("lost on the way there", "lost on the way back", "somebody else wrote"):
            raise TimeoutError("no answer in 60 s")
        return super().create(name, data)


@pytest.mark.parametrize("how", ["lost on the way back", "sent again"])
def test_an_entry_whose_answer_was_lost_is_found_by_its_nonce(tmp_path: Path, how: str) -> None:
    """It was taken for somebody else's, and the deploy ended with its model live."""
    promote(Ledger(Store(url_of(tmp_path))), 1, "2013-04", "a", "2013-03")
    book = Ledger(Unclear(url_of(tmp_path), how))
    made = decide(book, 1, 3, "c")
    assert book.entries()[1:] == [made]


def test_an_entry_that_did_not_arrive_can_be_decided_again(tmp_path: Path) -> None:
    promote(Ledger(Store(url_of(tmp_path))), 1, "2013-04", "a", "2013-03")
    book = Ledger(Unclear(url_of(tmp_path), "lost on the way there"))
    with pytest.raises(Unavailable, match=r"does not say whether ledger entry 2 .*is written \(no answer in 60 s\)"):
        decide(book, 1, 3, "c")
    assert decide(book, 1, 3, "c") == decide(book, 1, 3, "c") == book.entries()[-1]
    assert len(book.entries()) == 2


def test_an_unclear_answer_where_somebody_else_was_first_is_a_decision_that_lost(tmp_path: Path) -> None:
    promote(Ledger(Store(url_of(tmp_path))), 1, "2013-04", "a", "2013-03")
    book = Ledger(Unclear(url_of(tmp_path), "somebody else wrote"))
    with pytest.raises(SupersededError, match="entry 2, a rollback to v2 by ann"):
        decide(book, 1, 3, "c")
    assert [entry.to_version for entry in book.entries()] == [1, 2]


def test_a_store_that_cannot_be_read_back_leaves_it_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    promote(Ledger(Store(url_of(tmp_path))), 1, "2013-04", "a", "2013-03")
    book = Ledger(Unclear(url_of(tmp_path), "lost on the way back"))
    read, looks = book._read, []

    def away() -> object:
        looks.append(1)
        if len(looks) == 2:
            raise OSError("connection reset")
        return read()

    monkeypatch.setattr(book, "_read", away)
    with pytest.raises(Unavailable, match="Run this again when the store answers"):
        decide(book, 1, 3, "c")
    made = decide(book, 1, 3, "c")
    assert (made.seq, len(book.entries())) == (2, 2), "it was there, and is found by what it says"
