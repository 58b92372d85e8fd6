"""The as-of state against a count by hand, and against the future: nothing that happens at or after T may show."""

from __future__ import annotations

import datetime as dt
import random

import pyarrow as pa
import pytest

from models.flights.asof import Flight, State
from models.flights.definitions import FEATURES, LATE_RATES, WEATHER
from models.flights.params import FeatureParams
from models.flights.request import FlightRequest, local_time
from models.flights.state import state_tables
from tests.serving.world import FLIGHT, FLIGHTS, OBSERVED, make_flights, make_weather

PARAMS = FeatureParams(
    day_zero=dt.date(2013, 1, 1), horizon_hours=3, trailing_days=7, departure_hours=3, late_minutes=15
)
INTERVALS = ("2013-01", "2013-02")


def tables(interval: str) -> tuple[list[dict], list[dict]]:
    return make_flights(interval).to_pylist(), make_weather(interval).to_pylist()


def build(flights: dict[str, list[dict]], weather: dict[str, list[dict]]) -> State:
    return State(
        {
            m: state_tables(
                {
                    "flights": pa.Table.from_pylist(flights[m], FLIGHTS),
                    "weather": pa.Table.from_pylist(weather[m], OBSERVED),
                }
            )
            for m in flights
        },
        PARAMS,
    )


def as_flight(row: dict) -> Flight:
    return Flight(*(row[c] for c in ("carrier", "flight", "origin", "dest", "date", "hour", "minute", "scheduled_at")))


def by_hand(row: dict, flights: list[dict], weather: list[dict]) -> dict:
    """The features of data-contracts.md, one by one, the slow way."""
    t = row["scheduled_at"] - row["minute"] * 60 - 3 * 3600

    def share(events):
        late = [e >= 15 for e in events]
        return sum(late) / len(late) if late else None

    values = {c: row[c] for c in ("carrier", "origin", "dest", "hour", "block_minutes", "distance")}
    values["dow"] = row["date"].weekday()
    seen = [w for w in weather if (w["origin"], w["observed_at"]) == (row["origin"], t)]
    values |= {c: seen[0][c] if seen else None for c in WEATHER}
    for name, by in LATE_RATES.items():
        values[name] = share([
            f["arr_delay"] for f in flights
            if f["arrived_at"] is not None and f["arr_delay"] is not None
            and t - 7 * 86400 <= f["arrived_at"] < t and all(f[c] == row[c] for c in by)
        ])  # fmt: skip
    values["origin_late_departures"] = share([
        f["dep_delay"] for f in flights
        if f["departed_at"] is not None and t - 3 * 3600 <= f["departed_at"] < t and f["origin"] == row["origin"]
    ])  # fmt: skip
    return values


def test_every_feature_equals_a_count_by_hand():
    flights, weather = ({m: tables(m)[k] for m in INTERVALS} for k in (0, 1))
    state = build(flights, weather)
    every = [f for m in INTERVALS for f in flights[m]]
    observed = [w for m in INTERVALS for w in weather[m]]
    for row in every[::23]:
        known = state.known(as_flight(row))
        assert {f: known.features[f] for f in FEATURES} == by_hand(row, every, observed)


@pytest.mark.parametrize("edge", ["arrived_at", "departed_at"])
def test_an_event_counts_from_the_second_after_it_and_a_window_begins_with_its_first_second(edge):
    row = make_flights("2013-02").to_pylist()[150]
    t = row["scheduled_at"] - row["minute"] * 60 - 3 * 3600
    name, length = ("late_rate_origin", 7 * 86400) if edge == "arrived_at" else ("origin_late_departures", 3 * 3600)
    for at, counts in ((t, False), (t - 1, True), (t - length, True), (t - length - 1, False)):
        other = row | {"scheduled_at": 1, edge: at, edge[:3] + "_delay": 60}
        quiet = {"arrived_at": None, "departed_at": None} | {edge: other[edge]}
        state = build({"2013-02": [row | {"arrived_at": None, "departed_at": None}, other | quiet]}, {"2013-02": []})
        assert state.known(as_flight(row)).features[name] == (1.0 if counts else None)


@pytest.mark.parametrize("seed", range(5))
def test_nothing_that_happened_at_or_after_t_shows(seed):
    pick = random.Random(seed)
    flights, weather = ({m: tables(m)[k] for m in INTERVALS} for k in (0, 1))
    row = pick.choice(flights["2013-02"])
    t = row["scheduled_at"] - row["minute"] * 60 - 3 * 3600
    before = build(flights, weather).known(as_flight(row))
    for interval in INTERVALS:
        for f in flights[interval]:
            for event in ("arr", "dep"):
                time = f[{"arr": "arrived_at", "dep": "departed_at"}[event]]
                if time is None or time >= t:
                    delay = pick.choice([None, -5, 0, 15, 300])
                    f[f"{event}_delay"] = delay
                    f[{"arr": "arrived_at", "dep": "departed_at"}[event]] = (
                        None if delay is None else t + pick.choice([0, 1, 60, 10**6])
                    )
        weather[interval] = [
            w | {c: pick.random() for c in WEATHER} if w["observed_at"] > t else w for w in weather[interval]
        ]
    after = build(flights, weather).known(as_flight(row))
    assert after == before


def test_an_empty_state_knows_only_the_calendar():
    known = State({}, PARAMS).known(FlightRequest.model_validate(FLIGHT).to_entity())
    assert {f for f in FEATURES if known.features[f] is not None} == {"carrier", "origin", "dest", "hour", "dow"}
    assert known.reasons


def test_an_interval_that_is_missing_in_between_is_named():
    flights, weather = tables("2013-01")
    later, later_weather = tables("2013-03")
    state = build({"2013-01": flights, "2013-03": later}, {"2013-01": weather, "2013-03": later_weather})
    reasons = state.known(as_flight(later[9 * 3])).reasons
    assert any(reason.startswith("2013-02 has not landed") for reason in reasons)
    assert not state.known(as_flight(later[9 * 20])).reasons


def test_the_schedule_before_is_preferred_to_one_from_the_future():
    rows = make_flights("2013-01").to_pylist()
    first, last = (next(r for r in order if (r["carrier"], r["dest"]) == ("B6", "SFO")) for order in (rows, rows[::-1]))
    first["block_minutes"], last["block_minutes"] = 100, 900
    state = build({"2013-01": rows}, {"2013-01": []})
    flight = as_flight(first)
    asked = Flight(
        *(getattr(flight, c) for c in ("carrier", "flight", "origin", "dest", "date", "hour", "minute")),
        flight.scheduled_at + 60,
    )
    assert state.known(asked).features["block_minutes"] == 100


def test_local_time_on_the_nights_the_clocks_change():
    assert local_time("2013-11-03T01:30-04:00").utcoffset() == dt.timedelta(hours=-4)
    assert local_time("2013-11-03T01:30-05:00").utcoffset() == dt.timedelta(hours=-5)
    assert local_time("2013-11-03T00:30").utcoffset() == dt.timedelta(hours=-4)
    assert local_time("2013-03-10T03:00") == local_time("2013-03-10T07:00Z")
    assert local_time("2013-03-10T07:00Z").hour == 3
