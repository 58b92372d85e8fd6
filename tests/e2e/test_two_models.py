"""Two models in one Airflow, one story in order: flights, by the month, and castings, by the day. Neither sees the other.

The checkout is a copy with both. Its flights are a twelfth of the feed's, and its limits let one such month make a champion: what a
gate says of flights is tested elsewhere.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import httpx
import pandas as pd
import pytest
import yaml

from tasks.intervals import cadence
from tasks.online import prediction_log
from tasks.settings.environment import environment, store
from tasks.storage.artefacts import Store
from tests import beside
from tests.airflow_dags import NAMES
from tests.waiting import until

from .conftest import started
from .loop import Loop

pytestmark = [pytest.mark.e2e, pytest.mark.story, pytest.mark.timeout(1800)]

MONTH = "2013-01"
DAYS = beside.DAYS
BOTH = ("castings", "flights")
GOLDEN = "fe88ac2eaf054f1d7edb734fd31df431974920e752db7bd174344db882e37ac0"
"""Digest of the golden set that the twelfth of January gives."""


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkout."""
    folder = beside.checkout(tmp_path_factory.mktemp("two") / "code")
    own = folder / "models/flights/params.yaml"
    raw = yaml.safe_load(own.read_text())
    raw["golden"] |= {"intervals": [MONTH], "rows": 300, "min_rows_per_value": 1, "digest": GOLDEN}
    raw["gate"] |= {"floors": {"auc": 0.5, "ece": 0.5}, "slices": {}, "behaviour": {}}
    raw["monitor"]["warmup_through"] = MONTH
    own.write_text(yaml.safe_dump(raw, sort_keys=False))
    return folder


@pytest.fixture(scope="module")
def loops(code: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Loop]]:
    """The stack, as each model sees it."""
    # A new folder changes no DAG file, so Airflow sees it when it parses the files again.
    more = {"AIRLOOP_CODE": str(code), "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "20"}
    with started(tmp_path_factory.mktemp("e2e") / "home", more) as loop:
        yield {name: dataclasses.replace(loop, model=name, store=store(name)) for name in BOTH}


@pytest.fixture
def castings(loops: dict[str, Loop]) -> Loop:
    return loops["castings"]


@pytest.fixture
def flights(loops: dict[str, Loop]) -> Loop:
    return loops["flights"]


def contents(where: Store) -> dict[str, bytes]:
    """Everything that the store has of a model."""
    return {name: where.read(name) for name in where.names("")}


def a_twelfth(flights: pd.DataFrame) -> pd.DataFrame:
    return flights.iloc[::12]


def ask(loop: Loop, **request: object) -> dict[str, object]:
    """What the service answers at the model's own route."""
    answer = httpx.post(f"{environment().online_url}/models/{loop.model}/predict", json=request, timeout=30)
    (prediction,) = answer.raise_for_status().json()["predictions"]
    return dict(prediction)


def test_both_have_their_dags(castings: Loop) -> None:
    for model in BOTH:
        for name in NAMES:
            until(lambda dag=f"{model}.{name}": castings.airflow.knows(dag), f"{model}.{name}", seconds=300)
    assert not castings.airflow.import_errors()


def test_each_makes_a_champion_of_its_own(code: Path, castings: Loop, flights: Loop) -> None:
    """Days of Berlin, of which one has 23 hours, by a backfill; meanwhile a month."""
    flights.land(MONTH, a_twelfth)
    month = flights.airflow.trigger("flights.ingest", {"interval": MONTH})
    beside.run(code, "models/castings/landing.py", "--day", DAYS[0], "--through", DAYS[-1])
    first, last = (calendar(code).start(day).isoformat() for day in (DAYS[0], DAYS[-1]))
    castings.airflow.backfill("castings.ingest", first, last)

    flights.follow("flights.ingest", month)
    for loop, interval in ((flights, MONTH), (castings, DAYS[-1])):
        for name in ("train", "deploy"):
            loop.follow(f"{loop.model}.{name}", loop.started(f"{loop.model}.{name}", interval))
    assert [castings.landed(day).counts["castings"]["landed"] for day in DAYS] == [600] * len(DAYS)
    for loop, after in ((flights, "2013-02"), (castings, "2024-04-01")):
        (entry,) = loop.ledger()
        assert (entry.model, entry.action, entry.to_version, entry.effective_from) == (loop.model, "promote", 1, after)
        assert loop.aliases() == {"champion": "1"}
        assert loop.online()["model_version"] == 1


def test_each_is_asked_at_its_own_route(code: Path, castings: Loop, flights: Loop) -> None:
    poured = ask(castings, mould="M1", alloy="AlSi7", poured_at=f"{DAYS[-1]}T12:00:00+02:00", melt_celsius=740.0)
    flown = ask(flights, carrier="B6", flight=1105, origin="JFK", destination="SFO", scheduled_time="2013-01-20T17:59")
    for answer, probability, ours in ((poured, "probability_defective", DAYS), (flown, "probability_late", (MONTH,))):
        assert 0 < answer[probability] < 1 and answer["model_version"] == 1
        assert answer["state"]["intervals"] == list(ours)
    assert not poured["degraded"]
    for loop, answer in ((castings, poured), (flights, flown)):
        prediction = str(answer["prediction_id"])
        until(
            lambda loop=loop, prediction=prediction: prediction_log.find(loop.store, prediction), "the log is written"
        )
        assert f"Model       {loop.model} v1" in beside.run(code, "-m", "tasks.lineage", prediction)


def test_a_promotion_and_a_rollback_of_one_leave_the_other_as_it_is(castings: Loop, flights: Loop) -> None:
    before, live, first = contents(flights.store), flights.online()["model"], castings.online()["model"]
    castings.run("castings.train", {"interval": DAYS[-1], "overrides": {"train.xgboost.rounds": 60}})
    castings.follow("castings.deploy", castings.started("castings.deploy", DAYS[-1], nth=2))
    assert castings.aliases() == {"champion": "2", "previous": "1"} and castings.online()["model_version"] == 2
    castings.run("castings.deploy", {"version": 1, "reason": "the e2e test says so"})
    assert [(e.action, e.to_version) for e in castings.ledger()] == [("promote", 1), ("promote", 2), ("rollback", 1)]
    assert castings.aliases()["champion"] == "1"
    assert castings.online()["model"]["sha256"] == first["sha256"]

    assert contents(flights.store) == before
    assert flights.online()["model"] == live
    assert flights.aliases() == {"champion": "1"}


def test_a_broken_folder_shows_itself_and_hides_nobody(code: Path, castings: Loop, flights: Loop) -> None:
    before = contents(castings.store)
    (code / "models/broken").mkdir()
    (code / "models/broken/model.py").write_text("MODEL = ModelSpec(\n")
    (code / "models/broken/spec.json").write_text('{"name": "broken",')
    until(lambda: castings.airflow.knows("broken.broken"), "the DAG that says what is wrong", seconds=300)
    assert not castings.airflow.import_errors()
    flights.run("flights.deploy", {})
    for loop in (castings, flights):
        assert all(loop.airflow.knows(f"{loop.model}.{name}") for name in NAMES)
        assert loop.online()["model_version"] == 1
    assert not any(castings.airflow.knows(f"broken.{name}") for name in NAMES)
    assert contents(castings.store) == before, "healing the flights' ledger is not the castings' concern"


def test_three_days_after_an_outage_are_one_run_which_waits_for_the_day_that_lands_late(
    code: Path, castings: Loop
) -> None:
    """Downstream a run for each day."""
    late, *outage = calendar(code).span("2024-04-01", "2024-04-04")
    castings.airflow.pause("castings.monitor")
    beside.run(code, "models/castings/landing.py", "--day", outage[0], "--through", outage[-1])
    span = castings.airflow.trigger("castings.ingest", {"interval": outage[0], "through": outage[-1]})
    until(
        lambda: castings.airflow.tasks("castings.ingest", span)["ingest"]["state"] == "deferred",
        f"the run of {outage[0]} waits for {late}",
        seconds=300,
    )
    beside.run(code, "models/castings/landing.py", "--day", late)
    castings.run("castings.ingest", {"interval": late})
    tasks = castings.follow("castings.ingest", span)
    assert [task["state"] for name, task in tasks.items() if name != "resume"] == ["success"] * 4
    records = [castings.landed(day) for day in (late, *outage)]
    assert [record.previous for record in records] == [DAYS[-1], late, *outage[:-1]]
    assert len({record.run for record in records[1:]}) == 1
    for day in outage:
        castings.started("castings.score", day)


def calendar(code: Path) -> cadence.Cadence:
    """The castings' days."""
    return cadence.read(code / "models/castings/spec.json").cadence
