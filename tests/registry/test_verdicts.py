"""A promotion rests on the gate's verdict: read by its digest, by the policy in force, against what is live."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.core.errors import DataError, Skip
from tasks.core.urls import url_of
from tasks.registry import verdicts, versions
from tasks.registry.ledger import Evidence, Ledger
from tasks.registry.versions import Version
from tasks.settings.environment import CODE
from tasks.storage.artefacts import Store, sha256, to_json
from tests import makers

MODEL, CONTRACT = "a" * 64, "c" * 64
NOBODY = (None, None)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(url_of(tmp_path / "store")).part("flights")


def registered(store: Store, champion: tuple[int | None, str | None] = NOBODY) -> Version:
    tags = {"airloop.onnx": MODEL, "airloop.contract": CONTRACT, "airloop.run": "r", "airloop.data_through": "2013-04"}
    record, tags = makers.approved(store, tags, champion)
    made = versions.claim(store, 7, record, tags)
    assert made is not None
    return made


def with_verdict(store: Store, change: Callable[[dict[str, Any]], None]) -> Version:
    """A version whose verdict is another one, by its own digest."""
    made = registered(store)
    verdict = makers.verdict_on(MODEL, CONTRACT, NOBODY)
    change(verdict)
    content = to_json(verdict)
    store.write(made.file("gate.json"), content)
    return made.model_copy(update={"tags": {**made.tags, "airloop.gate": sha256(content)}})


def live(store: Store, model: str, number: int) -> None:
    evidence = Evidence(
        model=model, contract="d" * 64, run="r", data_through="2013-03", labelled_through="2013-03", verdict=None, policy=None
    )  # fmt: skip
    Ledger(store).append(
        expect=0, action="promote", to_version=number, effective_from="2013-04", who="x", why="x", evidence=evidence
    )


def approve(store: Store, version: Version) -> None:
    verdicts.require_approval(store, version, Ledger(store).latest(), CODE)


def test_what_the_gate_let_through_against_what_is_live_is_approved(store: Store) -> None:
    approve(store, registered(store))
    live(store, "b" * 64, 3)
    with pytest.raises(Skip, match=r"v7 was judged against nothing, and v3 is live now, so its approval has lapsed"):
        approve(store, versions.read(store, 7))


def test_an_approval_is_about_the_champion_s_model_and_not_its_number(store: Store) -> None:
    live(store, "b" * 64, 3)
    approve(store, registered(store, (2, "b" * 64)))
    with pytest.raises(Skip, match="judged against v3, and v3 is live now"):
        approve(store, versions.read(store, 7).model_copy(update=_against(store, (3, "e" * 64))))


def _against(store: Store, champion: tuple[int | None, str | None]) -> dict[str, Any]:
    content = to_json(makers.verdict_on(MODEL, CONTRACT, champion))
    made = versions.read(store, 7)
    store.write(made.file("gate.json"), content)
    return {"tags": {**made.tags, "airloop.gate": sha256(content)}}


@pytest.mark.parametrize(
    "change",
    [
        lambda verdict: verdict.update(passed=False),
        lambda verdict: verdict.update(passed="true"),
        lambda verdict: verdict.update(passed=1),
        lambda verdict: verdict.pop("passed"),
        lambda verdict: verdict.pop("evidence"),
        lambda verdict: verdict["evidence"].pop("policy"),
        lambda verdict: verdict["evidence"].pop("champion"),
    ],
)
def test_a_verdict_that_does_not_say_that_it_passed_lets_nobody_through(
    store: Store, change: Callable[[dict[str, Any]], None]
) -> None:
    with pytest.raises(DataError, match=r"lets no candidate through, so v7 is not promoted"):
        approve(store, with_verdict(store, change))


@pytest.mark.parametrize("name", ["model", "contract"])
def test_a_verdict_on_another_model_lets_nobody_through(store: Store, name: str) -> None:
    with pytest.raises(DataError, match="is about the model"):
        approve(store, with_verdict(store, lambda verdict: verdict["evidence"].update({name: "f" * 64})))


def test_a_verdict_of_another_policy_is_void(store: Store) -> None:
    with pytest.raises(DataError, match="another policy"):
        approve(store, with_verdict(store, lambda verdict: verdict["evidence"].update(policy="f" * 64)))


def test_a_verdict_that_was_changed_or_is_gone_lets_nobody_through(store: Store) -> None:
    made = registered(store)
    store.write(made.file("gate.json"), store.read(made.file("gate.json")) + b"\n")
    with pytest.raises(DataError, match=r"not .* as recorded"):
        approve(store, made)
    store.delete(made.file("gate.json"))
    with pytest.raises(DataError, match="has no verdict to rest on"):
        approve(store, made)


def test_a_version_that_only_the_ledger_remembers_is_not_promoted(store: Store) -> None:
    live(store, MODEL, 3)
    with pytest.raises(DataError, match="registered before versions kept their record"):
        approve(store, versions.read(store, 3))
