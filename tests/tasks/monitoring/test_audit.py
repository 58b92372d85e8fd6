"""The audit of a promotion on constructed champions and shadows."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.monitoring.audit import audit, promotion
from tasks.registry.ledger import Entry, Evidence
from tasks.settings import params
from tests import makers
from tests.tasks.monitoring.made import scores

SETTINGS = params.parse(makers.settings())
TABLE = makers.features("2013-05", 60)
SHARP, DULL = scores(TABLE, sharp=1.6), scores(TABLE, sharp=0.6)


def entry(action: str = "promote", version: int = 2, interval: str = "2013-05") -> Entry:
    evidence = Evidence(
        model="m", contract="c", run="r", data_through="2013-04", labelled_through="2013-04", verdict=None, policy=None
    )
    return Entry(
        model="m",
        nonce="",
        seq=1,
        previous_digest=None,
        action=action,
        from_version=1,
        to_version=version,
        effective_from=interval,
        who="w",
        why="y",
        evidence=evidence,
        at="2013-05-01T00:00:00+00:00",
    )


@pytest.mark.parametrize(
    ("made", "found"),
    [
        (entry(), True),
        (entry(interval="2013-04"), False),
        (entry(version=3), False),
        (entry("rollback"), False),
    ],
)
def test_only_the_first_interval_of_a_promotion_is_audited(made: Entry, found: bool) -> None:
    assert (promotion([made], "2013-05", 2) is made) == found


def test_a_champion_that_beat_its_shadow() -> None:
    got = audit(TABLE, (2, SHARP), (1, DULL), SETTINGS)
    assert got is not None and got["beat_shadow"] and got["sure"] and not got["rollback"] and got["command"] is None
    assert got["d_log_loss"]["hi"] < 0 < got["d_auc"]["lo"]


def test_a_champion_that_did_not_is_to_be_rolled_back_by_a_person() -> None:
    got = audit(TABLE, (2, DULL), (1, SHARP), SETTINGS)
    assert got is not None and got["rollback"] and got["sure"]
    assert got["command"] == "airloop rollback 1 --model flights"
    assert "did not beat v1" in got["sentence"] and "no doubt" in got["sentence"]


def test_equal_models_are_no_improvement_and_nobody_is_sure() -> None:
    got = audit(TABLE, (2, SHARP), (1, SHARP.copy()), SETTINGS)
    assert got is not None and got["rollback"] and not got["sure"]
    assert "luck of the days" in got["sentence"]


def test_nothing_in_common_is_no_audit() -> None:
    assert audit(TABLE, (2, SHARP), (1, np.full(len(TABLE), np.nan)), SETTINGS) is None
