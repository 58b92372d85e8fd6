"""Nulls, population stability and feed outages, against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from models.flights.definitions import FEATURES, SCHEDULE_FEATURES, WEATHER
from tasks.monitoring import quality
from tasks.settings import params
from tasks.settings.environment import CODE
from tests import makers

LIMITS = params.of_model(CODE, "flights").monitor


def test_psi_of_text_by_hand() -> None:
    reference, current = pd.Series(["a"] * 50 + ["b"] * 50), pd.Series(["a"] * 75 + ["b"] * 25)
    by_hand = (0.75 - 0.5) * math.log(0.75 / 0.5) + (0.25 - 0.5) * math.log(0.25 / 0.5)
    assert quality.psi(reference, current) == pytest.approx(by_hand)
    assert quality.psi(reference, reference) == 0


def test_psi_counts_new_values_and_nulls() -> None:
    reference = pd.Series(["a"] * 100)
    half = (0.5 - 1) * math.log(0.5 / 1) + (0.5 - 1e-4) * math.log(0.5 / 1e-4)
    assert quality.psi(reference, pd.Series(["a"] * 50 + ["new"] * 50)) == pytest.approx(half)
    assert quality.psi(reference, pd.Series(["a"] * 50 + [None] * 50)) == pytest.approx(half)


def test_psi_of_a_number_by_hand() -> None:
    reference = pd.Series(np.arange(100.0))  # ten values in each tenth
    current = pd.Series(np.r_[np.arange(10.0), np.arange(10.0)])  # all in the lowest
    by_hand = (1 - 0.1) * math.log(1 / 0.1) + 9 * (1e-4 - 0.1) * math.log(1e-4 / 0.1)
    assert quality.psi(reference, current) == pytest.approx(by_hand)


def test_psi_of_a_number_with_few_values() -> None:
    reference, current = pd.Series([1.0] * 50 + [2.0] * 50), pd.Series([1.0] * 75 + [2.0] * 25)
    by_hand = 0.25 * math.log(1.5) - 0.25 * math.log(0.5)
    assert quality.psi(reference, current) == pytest.approx(by_hand)
    assert quality.psi(pd.Series([None, None], dtype=float), pd.Series([None], dtype=float)) == 0


def without(table: pa.Table, names: tuple[str, ...], rows: int) -> pa.Table:
    """``table`` with the first ``rows`` values of these columns taken away."""
    for name in names:
        values = table[name].to_pylist()
        column = pa.array([None] * rows + values[rows:], table.schema.field(name).type)
        table = table.set_column(table.schema.get_field_index(name), name, column)
    return table


def test_nulls_are_counted_beside_the_reference() -> None:
    reference, current = makers.features("2013-01", 20), makers.features("2013-02", 20)
    damaged = without(current, ("pressure",), len(current) // 4)
    found = quality.compare(reference, damaged)
    assert set(found["nulls"]) == set(FEATURES)
    assert found["nulls"]["pressure"] == {"share": 0.25, "reference": 0.0}
    assert set(found["psi"]) == set(SCHEDULE_FEATURES)
    assert quality.alarms(found, LIMITS) == []


def test_a_weather_outage_is_reported() -> None:
    table = makers.features("2013-02", 20)
    partial = without(table, WEATHER[1:], len(table))
    assert quality.blind_share(partial) == 0, "one known value is not an outage"
    found = quality.compare(None, without(table, WEATHER, 56))
    assert found["blind_share"] == 56 / 560
    (alarm,) = quality.alarms(found, LIMITS)
    assert "10.0% of the flights have no weather" in alarm
    assert found["psi"] is None


def test_a_new_schedule_is_an_alarm() -> None:
    table = makers.features("2013-02", 20)
    found = quality.compare(
        makers.features("2013-01", 20),
        table.set_column(table.schema.get_field_index("dest"), "dest", pa.array(["XXX"] * len(table))),
    )
    (alarm,) = quality.alarms(found, LIMITS)
    assert alarm.startswith("dest: population stability index")
