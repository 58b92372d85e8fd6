"""The study of decision days counts the pairs it says, looks at the days that the gate looks at, and reports who was right."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from bench.decision_days import Past, pair_tables, pairs
from models.flights.definitions import LABEL
from tasks.settings import params
from tasks.settings.environment import CODE
from tests.makers import MODEL, features

INTERVALS = MODEL.cadence.span("2013-01", "2013-12")


@pytest.fixture(scope="module")
def past() -> Past:
    """A year in which each newer candidate leans a little more towards the truth."""
    table = pa.concat_tables([features(interval) for interval in INTERVALS])
    table = table.filter(pc.is_valid(table[LABEL]))
    interval = np.asarray(pc.strftime(table["date"], "%Y-%m"))
    labels = table[LABEL].to_numpy()
    scores = {
        through: (0.5 + (labels - 0.5) * 0.02 * step).astype(np.float32)
        for step, through in enumerate(MODEL.cadence.span("2013-03", "2013-11"))
    }
    return Past(params.of_model(CODE, "flights"), table, interval, scores, {}, {})


def test_there_are_21_pairs_of_a_champion_and_a_newer_candidate(past: Past) -> None:
    found = pairs(past)
    assert len(found) == 21
    assert all(p.champion < p.candidate <= MODEL.cadence.shift(p.champion, 3) for p in found)


def test_decision_days_are_the_newest_that_neither_trained_on(past: Past) -> None:
    pair = pairs(past)[0]
    days, _ = past.rows(past.decision(pair.window, 28))
    every, _ = past.rows(past.decision(pair.window))
    assert set(days) == set(np.unique(every)[-28:]) and not {d for d in days.tolist() if d % 4 != 2}
    assert set(past.interval[past.decision(pair.window)]) == set(pair.window)


def test_a_candidate_that_is_better_everywhere_is_promoted_and_was_right(past: Past) -> None:
    text = "\n".join(pair_tables(past))
    assert "| the newest 28 | 21 of 21 | 21 of 21 | -" in text
    assert pairs(past)[0].difference(pairs(past)[0].after)[0] < 0
