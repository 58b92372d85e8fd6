"""Landed intervals that fit together, and what is said when one was corrected and the next was not built again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks import publish
from tasks.core.errors import DataError
from tasks.core.urls import url_of
from tasks.landing import landed
from tasks.storage.artefacts import Store

AGAIN = r"features of 2013-02 were built on another 2013-01 .* airflow dags trigger flights.ingest -c '\{\"interval\": \"2013-02\"\}'"


def record(interval: str, *, tail: str, previous: str | None = None, used: str = "") -> landed.Landed:
    """An interval whose own tail has digest ``tail``, and whose features looked back on one with digest ``used``."""
    previous = previous or interval
    lock: dict[str, Any] = {
        f"validate@{interval}": {"outs": [{"path": f"data/lists/lookback/{interval}.json", "md5": tail}]},
        f"features@{interval}": {"deps": [{"path": f"data/lists/lookback/{previous}.json", "md5": used}], "outs": []},
        f"labels@{interval}": {"outs": [{"path": f"data/labels/{interval}.parquet", "md5": "labels"}]},
    }
    return landed.Landed(
        interval=interval, previous=previous, run="r", manifest="m", features="f", counts={}, lock=lock, state={}
    )


JANUARY = record("2013-01", tail="one")
CORRECTED = record("2013-01", tail="two")
FEBRUARY = record("2013-02", tail="three", previous="2013-01", used="one")


def records(*found: landed.Landed) -> dict[str, landed.Landed]:
    return {one.interval: one for one in found}


def test_intervals_that_fit_together_are_let_through() -> None:
    landed.require_fresh(records(JANUARY, FEBRUARY), ["2013-01", "2013-02"])


def test_an_interval_that_looked_back_on_another_is_refused_with_the_command() -> None:
    with pytest.raises(DataError, match=AGAIN):
        landed.require_fresh(records(CORRECTED, FEBRUARY), ["2013-01", "2013-02"])


@pytest.mark.parametrize(
    ("intervals", "again"), [((JANUARY, FEBRUARY), []), ((CORRECTED, FEBRUARY), ["2013-02"]), ((CORRECTED,), [])]
)
def test_a_correction_makes_the_interval_after_it_stale(
    intervals: tuple[landed.Landed, ...], again: list[str], tmp_path: Path
) -> None:
    store = Store(url_of(tmp_path))
    for one in intervals:
        landed.write(store, one)
    assert publish.stale("2013-01", store) == again


def test_an_interval_of_an_older_version_follows_the_one_before_it(tmp_path: Path) -> None:
    """Its labels were a column of its features, so that nothing that it looked back on has changed."""
    store = Store(url_of(tmp_path))
    lock = {stage: entry for stage, entry in FEBRUARY.lock.items() if not stage.startswith("labels@")}
    for one in (JANUARY, FEBRUARY.model_copy(update={"lock": lock})):
        landed.write(store, one)
    assert publish.stale("2013-01", store) == ["2013-02"]


def test_an_interval_that_landed_while_the_one_before_was_corrected_is_stale_itself(tmp_path: Path) -> None:
    store = Store(url_of(tmp_path))
    for one in (CORRECTED, FEBRUARY):
        landed.write(store, one)
    assert publish.stale("2013-02", store) == ["2013-02"]


OLD = record("2013-01", tail="one").model_copy(update={"run": "slow", "manifest": "old"})
NEW = record("2013-01", tail="two").model_copy(update={"run": "quick", "manifest": "new"})
STEPS = ("look", "create", "write", "end")


def test_the_first_data_of_an_interval_are_published_although_newer_ones_landed_meanwhile(tmp_path: Path) -> None:
    store = Store(url_of(tmp_path))
    assert landed.publish(store, OLD, lambda: "new") and landed.read(store, "2013-01") == OLD
    assert landed.publish(store, NEW, lambda: "new") and landed.read(store, "2013-01") == NEW
    assert not landed.publish(store, OLD, lambda: "new") and landed.read(store, "2013-01") == NEW
    assert landed.publish(store, OLD, lambda: "old") and landed.read(store, "2013-01") == OLD, "landed again as it was"


def test_what_an_older_version_published_counts(tmp_path: Path) -> None:
    store = Store(url_of(tmp_path))
    landed.write(store, NEW)
    assert not landed.publish(store, OLD, lambda: "new") and landed.read(store, "2013-01") == NEW


class Interrupted(Store):
    """A store whose user stands still once, before the step that is named, while ``meanwhile`` happens."""

    step, meanwhile = "", staticmethod(lambda: None)

    def reach(self, step: str) -> None:
        if step == self.step:
            self.step = ""
            self.meanwhile()

    def names(self, prefix: str) -> list[str]:
        self.reach("look")
        return super().names(prefix)

    def create(self, name: str, data: bytes) -> bool:
        self.reach("create")
        return super().create(name, data)

    def write(self, name: str, data: bytes) -> str:
        self.reach("write")
        done = super().write(name, data)
        self.reach("end")
        return done


@pytest.mark.parametrize("before", [None, "first"])
@pytest.mark.parametrize("step", STEPS)
def test_of_two_ingests_the_newer_data_win_wherever_the_slow_one_stands_still(
    tmp_path: Path, step: str, before: str | None
) -> None:
    zone = {"manifest": "old"}
    store, other = Interrupted(url_of(tmp_path)), Store(url_of(tmp_path))
    if before:
        landed.publish(other, OLD.model_copy(update={"run": before, "manifest": before}), lambda: before)

    def correction() -> None:
        zone["manifest"] = "new"
        assert landed.publish(other, NEW, lambda: zone["manifest"])

    store.step, store.meanwhile = step, correction
    landed.publish(store, OLD, lambda: zone["manifest"])
    assert store.step == "", "the step was reached"
    assert landed.read(other, "2013-01") == NEW


def test_a_publisher_that_was_killed_while_it_wrote_is_put_right_by_the_next_try(tmp_path: Path) -> None:
    store = Store(url_of(tmp_path))
    landed.publish(store, OLD, lambda: "old")
    landed.publish(store, NEW, lambda: "new")
    landed.write(store, OLD)  # the slow one's last act
    assert not landed.publish(store, OLD, lambda: "new")
    assert landed.read(store, "2013-01") == NEW
