"""The monitor as it runs: in a workspace, against a store, MLflow down; intervals are made, nothing of them is scripted."""

from __future__ import annotations

import hashlib
import re
import shutil

import numpy as np
import pyarrow as pa
import pytest

from tasks import monitor
from tasks.core import results
from tasks.core.errors import DataError
from tasks.core.results import Status
from tasks.core.urls import path_of, url_of
from tasks.monitoring.measure import Scores
from tasks.registry.ledger import Evidence, Ledger
from tasks.settings.environment import environment
from tasks.storage.artefacts import Store
from tasks.storage.files import parquet_bytes
from tests import makers
from tests.tasks.conftest import Place
from tests.tasks.monitoring.made import predictions, scores

MAY = "2013-05"


class World:
    """A store and a workspace in which intervals land, are scored and are looked at."""

    def __init__(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        self._place, self._patch = place, monkeypatch
        self.store = Store(url_of(place.store.parent)).part(place.store.name)

    def land(self, interval: str = MAY, *, seed: int = 0, days: int = 31) -> pa.Table:
        table = makers.features(interval, 40, seed=seed).slice(0, 40 * days)
        return self.put(interval, table)

    def put(self, interval: str, table: pa.Table) -> pa.Table:
        makers.put(table, self._place.workspace / "data", interval)
        return table

    def score(
        self, interval: str = MAY, champion: Scores | None = None, shadow: Scores | None = None, version: int = 2
    ) -> None:
        """Record predictions of the landed ``interval``; warming up without a champion."""
        data = (self._place.workspace / f"data/features/{interval}.parquet").read_bytes()
        table = makers.features(interval, 40) if champion is None else pa.parquet.read_table(pa.BufferReader(data))
        versions = {v: s for v, s in ((version, champion), (version - 1, shadow)) if s is not None}
        digests = {
            f"v{v}": self.store.write(f"predictions/{interval}/v{v}.parquet", parquet_bytes(predictions(table, s)))
            for v, s in versions.items()
        }
        self.store.write_json(
            f"predictions/{interval}/scored.json",
            {
                "interval": interval,
                "status": "scored" if versions else "warming up",
                "features": hashlib.md5(data).hexdigest(),
                "champion": version if champion is not None else None,
                "previous": version - 1 if shadow is not None else None,
                "predictions": digests,
            },
        )

    def promote(self, version: int, interval: str, through: str) -> None:
        book = Ledger(self.store)
        book.append(
            expect=len(book.entries()),
            action="promote",
            to_version=version,
            effective_from=interval,
            who="test",
            why="test",
            evidence=Evidence(
                model=f"m{version}",
                contract="c",
                run="r",
                data_through=through,
                labelled_through=through,
                verdict=None,
                policy=None,
            ),
        )

    def monitor(self, interval: str = MAY, run: str = "run-a") -> dict[str, object]:
        """Run the stage; what it tells the orchestrator."""
        result = self._place.workspace / "result.json"
        self._patch.setenv("AIRLOOP_RESULT", str(result))
        self._patch.setenv("AIRLOOP_RUN", run)
        self._place.run(monitor, interval)
        found = results.read(result)
        assert found is not None and found.status is Status.DONE
        return dict(found.payload)

    def report(self, interval: str = MAY) -> dict[str, object]:
        return dict(self.store.read_json(f"reports/{interval}/monitor.json"))


@pytest.fixture
def world(place: Place, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    environment.cache_clear()
    return World(place, monkeypatch)


def test_a_good_interval_asks_for_nothing(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.score(champion=scores(world.land()))
    told = world.monitor()
    assert (told["retrain"], told["status"]) == (False, "keep")
    printed = capsys.readouterr()
    assert re.search(r"2013-05: AUC 0\.\d{3}, log loss 0\.\d{3}, ECE 0\.\d{4} \(v2\): within limits", printed.out)
    assert "the decision and the report are kept" in printed.err, "MLflow is down, and that is said"


def test_an_interval_without_a_row_is_no_drift_and_asks_for_nothing(world: World) -> None:
    for interval in ("2013-01", "2013-02"):
        world.land(interval)
    world.score(champion=scores(world.land(days=0)))
    found = world.monitor()
    assert (found["retrain"], found["rows"], found["alarms"]) == (False, 0, [])
    assert world.report()["quality"]["psi"] is None


def test_a_bad_interval_asks_once(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.score(champion=scores(world.land(), bias=1.0))
    first = world.monitor()
    names, before = world.store.names("reports"), world.store.read(f"reports/{MAY}/monitor.json")
    again, other = world.monitor(), world.monitor(run="run-b")
    assert [first["retrain"], again["retrain"], other["retrain"]] == [True, True, False]
    assert "run-a asked for the retrain already" in str(other["reason"])
    assert re.search(r"ECE 0\.\d{4} > 0\.05 \(v2\): retrain", capsys.readouterr().out)
    assert len(world.store.names("decisions")) == len(world.store.names("requests")) == 1
    assert world.store.names("reports") == names
    assert world.store.read(f"reports/{MAY}/monitor.json") == before, "the same data gives the same bytes"


@pytest.mark.parametrize("killed_at", ["claim", "publish", "emit"])
def test_a_kill_anywhere_loses_no_request_and_makes_no_second(
    world: World, monkeypatch: pytest.MonkeyPatch, killed_at: str
) -> None:
    class Killed(BaseException): ...

    def die(*_: object, **__: object) -> None:
        raise Killed

    world.score(champion=scores(world.land(), bias=1.0))
    with monkeypatch.context() as patch:
        patch.setattr(monitor.decide if killed_at == "claim" else monitor, killed_at, die)
        with pytest.raises(Killed):
            world.monitor()
    assert len(world.store.names("decisions")) == 1, "the decision was written before the kill"
    assert world.monitor()["retrain"] is True
    assert world.monitor(run="run-b")["retrain"] is False


def test_the_same_interval_with_other_data_is_decided_anew(world: World) -> None:
    world.score(champion=scores(world.land(), bias=1.0))
    assert world.monitor()["retrain"] is True
    world.score(champion=scores(world.land(seed=5), bias=1.0))
    assert world.monitor(run="run-b")["retrain"] is True
    assert len(world.store.names("decisions")) == 2


def test_the_same_rows_with_other_labels_are_decided_again(world: World) -> None:
    """A correction of outcomes alone changes no digest of features."""
    table = world.land()
    world.score(champion=scores(table))
    first = world.monitor()
    assert first["retrain"] is False
    flipped = pa.compute.subtract(pa.scalar(1, pa.int8()), table["late"])
    world.put(MAY, table.set_column(table.schema.get_field_index("late"), "late", flipped))
    again = world.monitor()
    assert again["retrain"] is True and again["features"] == first["features"]
    assert len(world.store.names("decisions")) == 2


@pytest.mark.parametrize(
    ("together", "version", "landed_again", "status"),
    [
        (1, 2, False, "not measured"),
        (2, 2, False, "retrain"),
        (2, 1, False, "not measured"),
        (2, 2, True, "not measured"),
    ],
    ids=["alone", "together", "another version", "other data since"],
)
def test_intervals_of_one_day_are_judged_together(
    world: World, place: Place, together: int, version: int, landed_again: bool, status: str
) -> None:
    """As a daily feed's are: one day says nothing of the noise."""
    makers.put_settings(place.workspace, monitor={"window_intervals": together, "min_days": 2})
    world.score("2013-04", champion=scores(world.land("2013-04", days=1), bias=1.0), version=version)
    if landed_again:
        world.land("2013-04", days=1, seed=9)
    world.score(champion=scores(world.land(days=1), bias=1.0))
    assert world.monitor()["status"] == status
    judged = status == "retrain"
    assert list(world.report()["inputs"]["judged_with"]) == ["2013-04"] * judged  # type: ignore[index]  # JSON
    assert ("together with 2013-04" in world.store.read(f"reports/{MAY}/index.html").decode()) == judged
    assert world.report()["rows"] == 40, "what is said of the inputs is said of the interval"


def test_what_was_landed_before_a_feature_came_is_judged_too(world: World, place: Place) -> None:
    makers.put_settings(place.workspace, monitor={"window_intervals": 2, "min_days": 2})
    older = world.land("2013-04", days=1).drop_columns(["temp"])
    world.put("2013-04", older)
    world.score("2013-04", champion=scores(older, bias=1.0))
    world.score(champion=scores(world.land(days=1), bias=1.0))
    assert world.monitor()["status"] == "retrain"


def test_what_is_judged_with_an_interval_is_decided_on_again_when_it_changes(world: World, place: Place) -> None:
    makers.put_settings(place.workspace, monitor={"window_intervals": 2, "min_days": 2})
    world.score(champion=scores(world.land(days=1), bias=1.0))
    assert world.monitor()["status"] == "not measured"
    world.score("2013-04", champion=scores(world.land("2013-04", days=1), bias=1.0))
    assert world.monitor()["status"] == "retrain"
    world.score("2013-04", champion=scores(world.land("2013-04", days=1)))
    world.score(champion=scores(world.land(days=1), bias=1.0))
    world.monitor()
    assert len(world.store.names(f"decisions/{MAY}")) == 3


@pytest.mark.parametrize(("fewest", "status"), [(2, "retrain"), (3, "not measured")])
def test_few_days_are_no_measure(world: World, place: Place, fewest: int, status: str) -> None:
    makers.put_settings(place.workspace, monitor={"min_days": fewest})
    world.score(champion=scores(world.land(days=2), bias=1.0))
    assert world.monitor()["status"] == status


def test_the_warm_up_asks_for_the_first_model_when_it_is_over(world: World) -> None:
    told = {}
    for interval in ("2013-01", "2013-02", "2013-03"):
        world.land(interval)
        world.score(interval)
        told[interval] = world.monitor(interval, run=f"run-{interval}")
    assert [t["status"] for t in told.values()] == ["warming up", "warming up", "retrain"]
    assert [t["retrain"] for t in told.values()] == [False, False, True]
    assert world.report("2013-03")["quality"]["psi"] is not None, "inputs are looked at before there is a model"  # type: ignore[index]  # JSON


def test_an_interval_landed_long_ago_asks_for_no_older_model(world: World) -> None:
    world.promote(1, "2013-04", "2013-03")
    world.promote(2, "2013-08", "2013-07")
    world.score(champion=scores(world.land(), bias=1.0), version=1)
    told = world.monitor()
    assert (told["retrain"], told["status"]) == (False, "superseded")


def test_a_champion_that_scores_nan_is_an_alarm(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    found = scores(world.land())
    found[:7] = np.nan
    world.score(champion=found)
    told = world.monitor()
    assert "v2 gave no probability for 7 of 1240 flights" in str(told["alarms"])
    assert "alarm: v2 gave no probability" in capsys.readouterr().out
    world.score(champion=np.full(len(found), np.nan), version=3)
    assert world.monitor()["status"] == "not measured"


def test_a_promotion_that_did_not_help_is_said_and_nothing_is_done(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.promote(1, "2013-04", "2013-03")
    world.promote(2, MAY, "2013-04")
    table = world.land()
    world.score(champion=scores(table, sharp=0.9), shadow=scores(table, sharp=1.6))
    told = world.monitor()
    assert told["rollback"] == "airloop rollback 1 --model flights"
    assert "v2 did not beat v1" in capsys.readouterr().out
    assert "airloop rollback 1 --model flights" in world.store.read(f"reports/{MAY}/index.html").decode()
    assert [e.to_version for e in Ledger(world.store).entries()] == [1, 2]


def test_predictions_of_other_data_are_refused(world: World) -> None:
    table = world.land()
    world.score(champion=scores(table))
    world.land(seed=9)
    with pytest.raises(DataError, match="has landed again since"):
        world.monitor()


def test_an_interval_that_was_not_scored_says_how(world: World) -> None:
    world.land()
    with pytest.raises(DataError, match=r"airflow dags trigger flights\.score"):
        world.monitor()


def test_damaged_or_missing_predictions_are_refused(world: World) -> None:
    world.score(champion=scores(world.land()))
    world.store.write(f"predictions/{MAY}/v2.parquet", b"half")
    with pytest.raises(DataError, match="changed or damaged"):
        world.monitor()
    path_of(world.store.uri(f"predictions/{MAY}/v2.parquet")).unlink()
    with pytest.raises(DataError, match="is missing"):
        world.monitor()
    assert world.store.names("decisions") == []


LOADS = re.compile(
    rb"<(?:script|iframe|img)[^>]+src\s*=|<link[^>]+href\s*=|@import|url\(\s*['\"]?https?:", re.IGNORECASE
)


def test_both_pages_open_offline(world: World) -> None:
    """Evidently for real; drawn once, since its page takes most of the monitor's time."""
    for interval in ("2013-01", "2013-02"):
        world.land(interval)
    world.score(champion=scores(world.land(), bias=1.0))
    world.monitor()
    index, drawn = (world.store.read(f"reports/{MAY}/{name}") for name in ("index.html", "drift.html"))
    assert b"DataDrift" in drawn or b"Drift is detected" in drawn
    assert b'href="drift.html"' in index and b"<svg" in index and b"Retrain" in index
    assert b"http" not in index
    markup = re.sub(
        rb"<script>.*?</script>", b"", drawn, flags=re.DOTALL
    )  # strings inside Evidently's own script load nothing
    assert len(markup) < len(drawn)
    for name, page in (("index", index), ("drift", markup)):
        assert LOADS.search(page) is None, name
    world.monitor()
    assert world.store.read(f"reports/{MAY}/drift.html") == drawn, "not drawn again for the same inputs"


def test_a_picture_that_cannot_be_drawn_costs_no_decision(world: World, place: Place) -> None:
    world.land("2013-01")
    world.score(champion=scores(world.land(), bias=1.0))
    broken = place.workspace / "broken/evidently"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise RuntimeError('no picture today')")
    world._patch.setenv("PYTHONPATH", f"{broken.parent}:{environment().code}")
    assert world.monitor()["retrain"] is True
    assert b"no picture today" in world.store.read(f"reports/{MAY}/index.html")
    assert not world.store.exists(f"reports/{MAY}/drift.html")
    shutil.rmtree(broken.parent)
