"""Whatever is sent: an answer or a sentence, never a 500."""

from __future__ import annotations

import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.serving.world import FLIGHT, World

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
TIMES = st.one_of(
    st.datetimes().map(lambda t: t.isoformat()),
    st.datetimes().map(lambda t: f"{t:%Y-%m-%dT%H:%M}+23:59"),
    st.from_regex(r"20(13|24)-[01]\d-[0-3]\dT[0-2]\d:[0-5]\d(Z|[+-][012]\d:[0-5]\d)?", fullmatch=True),
)
CODES = st.from_regex(r"[A-Z0-9]{1,4}", fullmatch=True)
FLIGHTS = st.fixed_dictionaries(
    {
        "carrier": CODES | st.sampled_from(["B6", "UA"]) | VALUES,
        "flight": st.integers(-5, 12_000) | VALUES,
        "origin": st.sampled_from(["JFK", "EWR", "XXX"]) | CODES | VALUES,
        "destination": st.sampled_from(["SFO", "BOS", "YYY"]) | CODES | VALUES,
        "scheduled_time": TIMES | VALUES,
    },
    optional={"extra": VALUES},
)
ANYTHING = st.one_of(
    st.binary(max_size=200),
    VALUES.map(json.dumps).map(str.encode),
    FLIGHTS.map(json.dumps).map(str.encode),
    st.lists(FLIGHTS | VALUES, max_size=4).map(lambda f: json.dumps({"flights": f}).encode()),
    st.sets(st.sampled_from(list(FLIGHT))).map(lambda k: json.dumps({n: FLIGHT[n] for n in k}).encode()),
    TIMES.map(lambda t: json.dumps(FLIGHT | {"scheduled_time": t}).encode()),
)
KINDS = st.sampled_from(["application/json"] * 8 + ["text/plain", "", "application/json; charset=latin-1", "a/b+json"])


def test_no_input_makes_it_fail(world: World, run):
    client = None
    context = world.client(max_rows=3)
    client = run(context.__aenter__())
    statuses = set()

    @settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
    @given(ANYTHING, KINDS)
    def check(body, kind):
        response = run(client.post("/models/flights/predict", content=body, headers={"content-type": kind}))
        statuses.add(response.status_code)
        assert response.status_code in {200, 422}, (response.text, body)
        if response.status_code == 422:
            assert len(response.json()["error"]) > 20
        else:
            assert all(0 <= p["probability_late"] <= 1 for p in response.json()["predictions"])

    try:
        check()
    finally:
        run(context.__aexit__(None, None, None))
    assert statuses == {200, 422}, "the inputs no longer reach both outcomes"
