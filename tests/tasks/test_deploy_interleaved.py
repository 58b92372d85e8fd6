"""Two decisions at once: at each access of one to ledger, service or MLflow the other one runs, and back again.

Whatever the order: the ledger is a chain, nobody decides past an entry that came after they began, what is live is what the newest
entry says, and who loses says to what.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator

import pytest

from tasks.registry import ledger
from tests.tasks.decisions import Actor, Home, forget

DECISIONS = {
    "promote": (("--interval", "2013-04"), ("--interval", "2013-05")),
    "rollback": (("--rollback", "1", "--why=nonsense"), ("--rollback", "2", "--why=other nonsense")),
    "revert": (("--interval", "2013-06"), ("--interval", "2013-07")),
    "reconcile": (("--reconcile",), ("--reconcile",)),
}
"""What the first and the second of a pair ask for. A revert is what becomes of a promotion whose golden row is answered otherwise."""
WRONG = (6, 7)
ALONE = 10_000
"""A stop that is never reached."""
SAID = re.compile(
    r"is not the newest any more: entry \d+, a \w+ to v\d by|not promoted: v\d was live until ledger entry \d+|was taken back, v\d is live again|its approval has lapsed|is not undone by this|history is not rewritten"
)


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    yield
    forget()


def looks_or_acts(access: str) -> bool:
    """Whether the order of this access and another decision's can matter: all else that is read never changes."""
    what, _, where = access.partition(" ")
    looks = what == "find" or (what == "exists" and where.endswith(".json"))
    return acts(access) or (looks and "/ledger" in where)


def acts(access: str) -> bool:
    """Whether it changes something, or asks the service to."""
    what, _, where = access.partition(" ")
    return what in ("ask", "aliases") or (what == "pipe_file" and "/ledger" in where)


def anything(_: str) -> bool:
    """Each access at all."""
    return True


def play(
    monkeypatch: pytest.MonkeyPatch, pair: tuple[str, str], k: int, j: int, *stops: Callable[[str], bool]
) -> tuple[Home, Actor, Actor]:
    """The first to its access ``k``, the second to its ``j``, the first to its end, the second to its end.

    Args:
        monkeypatch: of the test.
        pair: what they do.
        k: where the first stops.
        j: where the second does.
        stops: which accesses count, for each.
    """
    home = Home(monkeypatch, wrong=WRONG)
    first = Actor(home, DECISIONS[pair[0]][0], "ann", k, stops[0])
    second = Actor(home, DECISIONS[pair[1]][1], "bob", j, stops[1])
    for actor in (first, second, first, second):
        actor.go()
    return home, first, second


def check(home: Home, *actors: Actor) -> None:
    entries = ledger.Ledger(home.store).entries()
    newest = entries[-1]
    written = entries[3:]
    authors = [
        e.who
        if e.who != "airloop"
        else next(x.who for x in reversed(written[: e.seq - 4]) if x.to_version == e.from_version)
        for e in written
    ]
    for actor in actors:
        assert actor.done and actor.crash is None, actor.crash
        last = actor.began
        for entry, author in zip(written, authors, strict=True):
            if author == actor.who:
                assert entry.seq == last + 1, f"{actor.words} decided past an entry that came after it began"
                last = entry.seq
        if actor.entry is not None:
            assert actor.entry.seq == actor.ended, f"{actor.words} says that it is done, and it was superseded"
        else:
            assert SAID.search(actor.said), actor.said
    assert home.served == newest.to_version
    assert home.aliases["champion"] == newest.to_version
    # One that is wrong stays only where two are, one on top of the other: a deploy takes back its own, and says that this one is wrong too.
    assert newest.to_version not in WRONG or any("not yet brought about: At http" in actor.said for actor in actors)


@pytest.mark.parametrize("pair", list(itertools.product(DECISIONS, repeat=2)), ids="-".join)
def test_each_pair_at_each_access(monkeypatch: pytest.MonkeyPatch, pair: tuple[str, str]) -> None:
    lost = 0
    for k in itertools.count(1):
        for j in itertools.count(1):
            home, first, second = play(monkeypatch, pair, k, j, looks_or_acts, acts)
            check(home, first, second)
            lost += sum("not the newest any more" in actor.said for actor in (first, second))
            if second.passed < j:
                break
        forget()
        if first.passed < k:
            break
    assert lost or "reconcile" in pair, "some of these orders have a loser"


@pytest.mark.parametrize("pair", list(itertools.product(DECISIONS, repeat=2)), ids="-".join)
def test_each_pair_when_one_stops_at_any_access_at_all(monkeypatch: pytest.MonkeyPatch, pair: tuple[str, str]) -> None:
    for k in itertools.count(1):
        home, first, second = play(monkeypatch, pair, k, ALONE, anything, anything)
        check(home, first, second)
        if first.passed < k:
            break
