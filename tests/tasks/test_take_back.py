"""What takes a version back, what does not, and what may be promoted again; by a clock that does not wait."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tasks import deploy
from tasks.core.errors import AirloopError, DataError, Skip, Unavailable
from tasks.core.results import Status
from tasks.online import AwayError, waits
from tasks.online.client import Answer
from tasks.registry.ledger import SupersededError
from tests.tasks.decisions import Home, forget


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    yield
    forget()


SYNC, PREDICT = "/-/sync/flights", "/models/flights/predict"
AWAY: dict[str, Any] = {
    "401": Answer(401, {}, "who are you"),
    "403": Answer(403, {"error": "This needs the header"}, "{}"),
    "404": Answer(404, {}, "no such thing"),
    "429": Answer(429, {}, "later"),
    "500": Answer(500, {}, "a bug"),
    "502": Answer(502, {}, "<html>"),
    "503, the store is away": Answer(503, {"model_version": 3, "problems": {"store": "timed out"}, "refused": None}, "{}"),
    "503, the model cannot be read": Answer(503, {"model_version": 3, "problems": {"model": "v4 is refused: timed out"}, "refused": None}, "{}"),
    "503, another version is refused": Answer(503, {"model_version": 3, "problems": {"model": "v2"}, "refused": 2}, "{}"),
    "200 of something else": Answer(200, {}, "<html>It works!"),
    "nobody": AwayError("The online service does not answer"),
}  # fmt: skip


@pytest.mark.parametrize("path", [SYNC, PREDICT])
@pytest.mark.parametrize("what", AWAY)
def test_what_says_nothing_of_the_version_takes_nothing_back(
    monkeypatch: pytest.MonkeyPatch, what: str, path: str
) -> None:
    """Any of these undid a good model, which could never be promoted again."""
    home = Home(monkeypatch)
    home.fault = lambda _, asked: AWAY[what] if asked == path else None
    with pytest.raises(Unavailable) as said:
        home.decide("--interval", "2013-04")
    assert said.value.status is Status.WAITING, "so that Airflow tries again"
    assert home.history() == [("promote", 4)]
    assert waits.CLOCK.now() >= waits.AWAY_SECONDS
    assert 10 < sum(url.endswith(path) for url in home.asked) < 100, "asked again and again, with growing pauses"

    home.fault = lambda *_: None
    assert home.decide("--interval", "2013-04").seq == 4
    assert (home.served, home.history()) == (4, [("promote", 4)])


@pytest.mark.parametrize("what", AWAY)
def test_what_is_away_for_a_moment_is_waited_for(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    home = Home(monkeypatch)
    home.fault = lambda *_: AWAY[what] if waits.CLOCK.now() < 100 else None
    assert home.decide("--interval", "2013-04").to_version == 4
    assert home.served == 4


def test_a_version_that_is_refused_by_name_is_taken_back_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(monkeypatch, refused=(4,))
    with pytest.raises(AirloopError, match=r"v4 was taken back, v3 is live again: http://online refuses v4: no"):
        home.decide("--interval", "2013-04")
    assert (home.served, home.history(), waits.CLOCK.now()) == (3, [("promote", 4), ("revert", 3)], 0)


def test_one_replica_that_is_away_hides_no_refusal_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(monkeypatch, refused=(4,))
    home.urls = ["http://away", "http://online"]
    home.fault = lambda url, _: AWAY["nobody"] if url == "http://away" else None
    with pytest.raises(
        AirloopError, match=r"v4 was taken back.*not yet brought about: The online service does not answer"
    ):
        home.decide("--interval", "2013-04")
    assert home.history() == [("promote", 4), ("revert", 3)]


def test_a_golden_row_that_is_answered_otherwise_takes_the_version_back_for_good(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    home = Home(monkeypatch, wrong=(4,))
    with pytest.raises(
        AirloopError, match=r"v4 was taken back, v3 is live again: At http://online the model answers 0\.450000"
    ):
        home.decide("--interval", "2013-04")
    home.served, home.aliases = None, {}  # as a try leaves it that is killed after the entry
    with pytest.raises(
        Skip, match=r"not promoted: v4 was live until ledger entry 5, a revert to v3 by airloop .*`airloop rollback 4`"
    ):
        home.decide("--interval", "2013-04")
    assert (home.served, home.aliases["champion"]) == (3, 3), "the skipped try brings about what is live"
    assert home.history() == [("promote", 4), ("revert", 3)]


def test_a_version_in_whose_place_another_answers_is_taken_back_and_can_be_promoted_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    home = Home(monkeypatch)
    pinned = Answer(200, {"model_version": 3, "problems": {}, "refused": None}, "{}")
    home.fault = lambda url, path: pinned if path == SYNC and home.newest().to_version == 4 else None
    with pytest.raises(AirloopError, match=r"v4 was taken back, v3 is live again: http://online does not serve v4"):
        home.decide("--interval", "2013-04")
    assert waits.CLOCK.now() >= 10, "not by one answer"
    home.fault = lambda *_: None
    assert home.decide("--interval", "2013-04").action == "promote"
    assert home.history() == [("promote", 4), ("revert_unserved", 3), ("promote", 4)]
    assert home.served == 4


def test_what_a_person_put_live_is_not_undone_by_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was live before is what they withdrew."""
    home = Home(monkeypatch, wrong=(1,))
    with pytest.raises(AirloopError, match=r"Ledger entry 4, a rollback by t, is not undone by this"):
        home.decide("--rollback", "1")
    with pytest.raises(AirloopError, match="not undone by this"):
        home.decide("--reconcile")
    assert home.history() == [("rollback", 1)]


@pytest.mark.parametrize("path", [SYNC, PREDICT])
def test_a_rollback_cuts_a_deploy_short_that_waits(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """The deploy took the rollback for the model's failure, and undid it."""
    home = Home(monkeypatch)

    def fault(_: str, asked: str) -> Answer | None:
        if home.newest().to_version != 4 or asked != path:
            return None
        if waits.CLOCK.now() > 20:
            deploy.roll_back(1, "ann", "v4 answers nonsense", home.book, home.store)
        return AWAY["500"]

    home.fault = fault
    with pytest.raises(Skip, match=r"entry 5, a rollback to v1 by ann \(v4 answers nonsense\)"):
        home.decide("--interval", "2013-04")
    assert waits.CLOCK.now() < 40
    assert home.history() == [("promote", 4), ("rollback", 1)]
    assert home.decide("--reconcile").to_version == home.served == 1


def test_a_rollback_at_the_moment_of_the_evidence_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(monkeypatch, wrong=(4,))

    def fault(_: str, path: str) -> None:
        if path == PREDICT and home.newest().to_version == 4:
            deploy.roll_back(1, "ann", "nonsense", home.book, home.store)

    home.fault = fault
    with pytest.raises(Skip, match="entry 5, a rollback to v1 by ann"):
        home.decide("--interval", "2013-04")
    assert home.history() == [("promote", 4), ("rollback", 1)]


def test_a_rollback_that_lost_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(monkeypatch)

    def fault(_: str, path: str) -> None:
        if home.newest().to_version == 1:
            home.fault = lambda *_: None
            home.decide("--rollback", "2", "--why=rather this", who="bob")

    home.fault = fault
    with pytest.raises(SupersededError, match=r"entry 5, a rollback to v2 by bob \(rather this\)"):
        home.decide("--rollback", "1")
    assert home.served == 2


def test_a_cleared_run_s_new_model_is_promoted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decisions were known by the run: another model of the same run was taken for the one that was decided before."""
    home = Home(monkeypatch)
    run = home.book.entries()[-1].evidence.run
    made = home.register_again(9, "2013-04", run)
    assert home.decide("--interval", "2013-04").to_version == 9
    assert home.newest().evidence.model == made


def test_another_run_s_same_model_is_the_same_decision(monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(monkeypatch)
    home.decide("--interval", "2013-04")
    home.decide("--rollback", "3", "--why=worse")
    home.register_again(9, "2013-04", "another-run", model="4" * 64)
    with pytest.raises(Skip, match=r"not promoted: v9 was live until ledger entry 5, a rollback to v3 by t \(worse\)"):
        home.decide("--interval", "2013-04")
    assert home.served == 3


def test_nothing_is_decided_about_a_version_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(monkeypatch)
    with pytest.raises(DataError, match="no registered model trained through 2014-01"):
        home.decide("--interval", "2014-01")
    assert home.history() == []
