"""Landed months that fit together, and what is said when one was corrected and the next was not built again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks import publish
from tasks.common import landed
from tasks.common.artefacts import Store
from tasks.common.errors import DataError

AGAIN = (
    r"features of 2013-02 were built on another 2013-01 .* airflow dags trigger ingest -c '\{\"month\": \"2013-02\"\}'"
)


def record(month: str, *, tail: str, previous: str | None = None, used: str = "") -> landed.Landed:
    """A month whose own tail has digest ``tail``, and whose features looked back on one with digest ``used``."""
    previous = previous or month
    lock: dict[str, Any] = {
        f"validate@{month}": {"outs": [{"path": f"data/tail/{month}", "md5": tail}]},
        f"features@{month}": {"deps": [{"path": f"data/tail/{previous}", "md5": used}], "outs": []},
    }
    return landed.Landed(
        month=month, previous=previous, run="r", manifest="m", features="f", counts={}, lock=lock, state={}
    )


JANUARY = record("2013-01", tail="one")
CORRECTED = record("2013-01", tail="two")
FEBRUARY = record("2013-02", tail="three", previous="2013-01", used="one")


def records(*found: landed.Landed) -> dict[str, landed.Landed]:
    return {one.month: one for one in found}


def test_months_that_fit_together_are_let_through() -> None:
    landed.require_consistent(records(JANUARY, FEBRUARY), ["2013-01", "2013-02"])


def test_a_month_that_looked_back_on_another_is_refused_with_the_command() -> None:
    with pytest.raises(DataError, match=AGAIN):
        landed.require_consistent(records(CORRECTED, FEBRUARY), ["2013-01", "2013-02"])


def test_a_month_that_has_not_landed_is_named() -> None:
    with pytest.raises(DataError, match="2013-02 has not landed"):
        landed.require_consistent(records(JANUARY), ["2013-01", "2013-02"])


@pytest.mark.parametrize(
    ("months", "said"), [((JANUARY, FEBRUARY), False), ((CORRECTED, FEBRUARY), True), ((CORRECTED,), False)]
)
def test_who_publishes_a_correction_is_told_of_the_month_after(
    months: tuple[landed.Landed, ...], said: bool, tmp_path: Path
) -> None:
    store = Store(tmp_path.as_uri())
    for one in months:
        landed.write(store, one)
    assert bool(publish.outdated("2013-01", store)) is said
