"""What goes live by deploy: only what the gate approved against what is live, or what was live before; and nothing twice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tasks.core.errors import AirloopError, DataError, Skip
from tasks.registry import versions
from tasks.registry.ledger import LedgerError, SupersededError
from tasks.settings import policy
from tasks.storage.artefacts import to_json
from tests.tasks.decisions import Home, forget


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    yield
    forget()


def test_an_approval_against_another_champion_has_lapsed(monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(monkeypatch)
    home.decide("--rollback", "1", "--why=v3 is odd")
    with pytest.raises(Skip, match=r"v4 was judged against v3, and v1 is live now, so its approval has lapsed"):
        home.decide("--interval", "2013-04")
    assert home.history() == [("rollback", 1)]


def test_an_approval_by_another_policy_is_void(monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(monkeypatch)
    monkeypatch.setattr(policy, "digest", lambda *_: "f" * 64)
    with pytest.raises(DataError, match=r"by another policy .* Its approval is void"):
        home.decide("--interval", "2013-04")
    assert home.history() == []


def test_a_version_that_somebody_claimed_without_a_verdict_does_not_go_live(monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(monkeypatch)
    made = versions.read(home.store, 4)
    name = made.file("gate.json")
    refused = to_json({"passed": False, "evidence": {}})
    home.store.write(name, refused)
    with pytest.raises(DataError, match=r"not .* as recorded"):
        home.decide("--interval", "2013-04")
    home.store.delete(name)
    with pytest.raises(DataError, match="has no verdict to rest on"):
        home.decide("--interval", "2013-04")
    assert home.history() == []


def test_a_rollback_goes_only_to_what_was_live(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the form for a rollback would be a way past the gate."""
    home = Home(monkeypatch)
    with pytest.raises(LedgerError, match=r"v4 never was live, and a rollback only goes back.* train DAG for 2013-04"):
        home.decide("--rollback", "4", "--why=trust me")
    assert home.history() == []


def test_a_rollback_that_is_tried_again_does_not_undo_what_came_after(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Airflow tries its task again, under the same name."""
    home = Home(monkeypatch)
    monkeypatch.setenv("AIRLOOP_RUN", "deploy-1")
    home.decide("--rollback", "1", "--why=v3 is odd", who="airflow: deploy manual1 by ann")
    home.decide("--rollback", "2", "--why=v1 is broken", who="airflow: deploy manual2 by bob")
    with pytest.raises(SupersededError, match="entry 5, a rollback to v2 by airflow: deploy manual2 by bob"):
        home.decide("--rollback", "1", "--why=v3 is odd", who="airflow: deploy manual1 by ann")
    assert home.history() == [("rollback", 1), ("rollback", 2)]


def test_a_person_may_roll_back_to_the_same_version_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRLOOP_RUN", raising=False)
    home = Home(monkeypatch)
    for version in ("1", "2", "1"):
        home.decide("--rollback", version, "--why=hm", who="ann")
    assert home.history() == [("rollback", 1), ("rollback", 2), ("rollback", 1)]


def test_what_a_person_withdrew_after_the_service_had_not_served_it_stays_withdrawn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    home = Home(monkeypatch)
    live = home.decide("--interval", "2013-04")
    home.book.append(
        expect=live.seq, action="revert_unserved", to_version=3, effective_from=live.effective_from, who="airloop", why="away",
        evidence=versions.read(home.store, 3).evidence,
    )  # fmt: skip
    home.decide("--rollback", "3", "--why=v4 answers nonsense", who="ann")
    with pytest.raises(Skip, match=r"v4 was live until ledger entry 6, a rollback to v3 by ann"):
        home.decide("--interval", "2013-04")


def test_healing_takes_back_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is live answers otherwise than it was evaluated: data may have landed again, or a library may be another."""
    home = Home(monkeypatch)
    home.decide("--interval", "2013-04")
    home.wrong = (4,)
    with pytest.raises(AirloopError, match=r"Ledger entry 4, a promote by t, is not undone by this"):
        home.decide("--reconcile")
    with pytest.raises(AirloopError, match="is not undone by this"):
        home.decide("--interval", "2013-04", who="another run")
    assert home.history() == [("promote", 4)]
