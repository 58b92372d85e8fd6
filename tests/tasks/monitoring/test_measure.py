"""The join loses and invents nothing; measures of constructed models come out as constructed."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from tasks.core.errors import DataError
from tasks.monitoring.measure import match, measure
from tasks.settings import params
from tests import makers
from tests.tasks.monitoring.made import predictions, scores

SETTINGS = params.parse(makers.settings())
TABLE = makers.features("2013-05", 60)


def test_predictions_in_any_order_find_their_flights() -> None:
    found = scores(TABLE).astype(np.float32)
    shuffled = predictions(TABLE, found).take(np.random.default_rng(3).permutation(len(TABLE)))
    assert (match(TABLE, shuffled, "v1") == found).all()


@pytest.mark.parametrize(
    ("rows", "predicted", "words"),
    [
        (slice(None), slice(0, -2), "2 rows without a prediction, 0 predictions without a row"),
        (slice(0, -3), slice(None), "0 rows without a prediction, 3 predictions without a row"),
        (slice(1, None), slice(0, -1), "1 rows without a prediction, 1 predictions without a row"),
    ],
)
def test_a_gap_on_either_side_is_an_error(rows: slice, predicted: slice, words: str) -> None:
    index = np.arange(len(TABLE))
    with pytest.raises(DataError, match=words):
        match(TABLE.take(index[rows]), predictions(TABLE, scores(TABLE)).take(index[predicted]), "v1")


def test_a_flight_twice_is_an_error() -> None:
    made = predictions(TABLE, scores(TABLE))
    with pytest.raises(DataError, match="twice"):
        match(TABLE, pa.concat_tables([made, made.slice(0, 1)]), "v1")


def test_measures_agree_with_scikit_learn_and_have_noise() -> None:
    found = scores(TABLE)
    got = measure(TABLE, found, SETTINGS)
    late = TABLE["late"].to_numpy()
    known = ~np.isnan(late)
    assert got["labelled"] == known.sum() < len(TABLE)
    assert got["auc"]["value"] == pytest.approx(roc_auc_score(late[known], found[known]), abs=1e-12)
    assert got["log_loss"]["value"] == pytest.approx(log_loss(late[known], found[known]), abs=1e-9)
    for name in ("auc", "log_loss", "ece"):
        assert got[name]["lo"] < got[name]["value"] < got[name]["hi"] and got[name]["se"] > 0, name
    assert [d["date"] for d in got["daily"]] == [f"2013-05-{d:02d}" for d in range(1, 32)]
    assert sum(d["n"] for d in got["daily"]) == sum(b["n"] for b in got["reliability"]) == got["labelled"]


def test_a_biased_model_has_the_same_auc_and_a_higher_ece() -> None:
    fair, biased = (measure(TABLE, scores(TABLE, bias=bias), SETTINGS) for bias in (0.0, 0.8))
    assert biased["auc"]["value"] == pytest.approx(fair["auc"]["value"], abs=1e-12)
    assert fair["ece"]["value"] < 0.05 < biased["ece"]["value"]
    assert biased["mean_score"] > biased["positive_share"] + 0.05


def test_what_is_no_probability_is_counted_and_left_out() -> None:
    found = scores(TABLE)
    found[:3], found[3], found[4] = np.nan, 1.5, -0.1
    got = measure(TABLE, found, SETTINGS)
    assert got["unusable"] == 5
    assert got["auc"] == measure(TABLE.slice(5), found[5:], SETTINGS)["auc"]


def test_what_cannot_be_measured_says_why() -> None:
    nothing = measure(TABLE, np.full(len(TABLE), np.nan), SETTINGS)
    assert nothing["auc"] is nothing["ece"] is None and "no row" in nothing["why_not"]
    one_class = TABLE.filter(pa.compute.equal(TABLE["late"], 0))
    assert "all" in measure(one_class, scores(TABLE)[: len(one_class)], SETTINGS)["why_not"]
    one_day = TABLE.slice(0, 60)
    assert "of 1 day(s), and monitor.min_days is 7" in measure(one_day, scores(one_day), SETTINGS)["why_not"]


def test_the_interval_of_an_interval_covers_days_not_rows() -> None:
    """With the luck of whole days, an interval from rows would be several times narrower."""
    lucky = makers.features("2013-05", 200, day_luck=1.0)
    got = measure(lucky, np.full(len(lucky), 0.2) + np.linspace(0, 1e-3, len(lucky)), SETTINGS)
    p = got["positive_share"]
    assert got["ece"]["se"] > 2 * (p * (1 - p) / got["labelled"]) ** 0.5
