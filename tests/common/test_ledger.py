"""The ledger: append-only, chained, one writer wins, history is never rewritten."""

from __future__ import annotations

import json
import multiprocessing as mp
import multiprocessing.synchronize
from pathlib import Path

import pytest

from tasks.common.artefacts import Store
from tasks.common.errors import DataError
from tasks.common.ledger import Evidence, Ledger, LedgerError, live_at, previous_at
from tasks.common.urls import url_of


def evidence(name: str = "a", through: str = "2013-03") -> Evidence:
    return Evidence(model=name * 64, contract="c" * 64, gate="d" * 64, run=f"train-{name}", data_through=through)


@pytest.fixture
def book(tmp_path: Path) -> Ledger:
    return Ledger(Store(url_of(tmp_path)))


def promote(book: Ledger, version: int, interval: str, name: str, through: str) -> None:
    book.append(
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
    book.append(action="rollback", to_version=1, effective_from="2013-06", who="t", why="t", evidence=evidence("a"))
    entries = book.entries()
    assert [p.to_version if (p := previous_at(entries, m)) else None for m in ("2013-04", "2013-05", "2013-06")] == [
        None,
        1,
        2,
    ]


def test_a_revert_to_nothing_takes_the_only_version_out(book: Ledger) -> None:
    promote(book, 1, "2013-04", "a", "2013-03")
    book.append(action="revert", to_version=None, effective_from="2013-04", who="t", why="smoke", evidence=None)
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
        action="rollback", to_version=1, effective_from="2013-05", who="t", why="t", evidence=evidence("a", "2013-03")
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
