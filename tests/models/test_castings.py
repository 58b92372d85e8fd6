"""A daily model goes the way of any model: its folder is all that it takes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from tasks import spec, spec_file
from tasks.core.urls import url_of
from tasks.settings.settings_files import put
from tasks.spec import ModelSpec
from tests import beside, parity
from tests.beside import DAYS

LOOKBACK = 60
"""Hours: three days are seen, of which one has 23 hours."""

pytestmark = pytest.mark.slow  # Spark


@dataclass(frozen=True)
class Made:
    """A checkout in which DVC has run all stages of the model, as it is declared here."""

    root: Path
    model: ModelSpec

    def json(self, name: str) -> dict:
        return json.loads((self.root / name).read_bytes())

    def kept(self, day: str):
        return pq.read_table(self.root / f"data/kept/{day}/castings.parquet")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """Lands the warm-up and runs ``airloop repro castings``, without Airflow."""
    folder = tmp_path_factory.mktemp("daily")
    root, home = beside.checkout(folder / "code"), folder / "home"
    put(root / "models/castings/params.yaml", {"features.trailing_hours": LOOKBACK})
    subprocess.run(["git", "init", "--quiet", str(root)], check=True)  # as DVC wants it
    environ = {"AIRLOOP_HOME": str(home), "AIRLOOP_STORE": url_of(home / "store"), "AIRLOOP_MODEL": ""}
    beside.run(root, "models/castings/landing.py", "--day", DAYS[0], "--through", DAYS[-1], **environ)
    beside.run(root, "-m", "local.cli", "repro", beside.NAME, **environ)
    with pytest.MonkeyPatch.context() as patch:
        beside.importable(patch)
        yield Made(root, spec.declared(beside.NAME))


def test_its_declaration_is_what_was_rendered(made: Made) -> None:
    assert (made.root / "models/castings/spec.json").read_bytes() == spec_file.content(made.model)


def test_nothing_lands_in_another_models_zone(made: Made) -> None:
    assert [path.name for path in (made.root.parent / "home/landing").iterdir()] == [beside.NAME]


def test_its_candidate_passes_the_gate(made: Made) -> None:
    gate = made.json("gate/gate.json")
    assert gate["passed"], gate["failures"]
    assert made.json("evaluation/evaluation.json")["decision"]["days"] == 2


def test_a_golden_set_may_be_drawn_by_features(made: Made) -> None:
    """Flights draw theirs by parts of the key."""
    by = made.json("golden/golden.json")["by"]
    assert set(by) == {"alloy", "defective", "mould"} and min(by["mould"].values()) >= 20
    assert pq.read_schema(made.root / "golden/golden.parquet").names == [*made.model.key, made.model.label]


@pytest.mark.parametrize("day", DAYS)
def test_online_and_offline_features_are_bit_equal(made: Made, day: str) -> None:
    raw = yaml.safe_load((made.root / "models/castings/params.yaml").read_text())["features"]
    settings = spec.sections(beside.NAME)["features"].model_validate(raw)
    online = made.model.online
    state = online.state({d: online.state_tables({"castings": made.kept(d)}) for d in DAYS if d <= day}, settings)
    kept = made.kept(day)
    known = parity.known(made.model, state, parity.asked(made.model, kept))
    features = pq.read_table(made.root / f"data/features/{day}.parquet")
    assert features.num_rows == kept.num_rows == 600
    assert parity.differences(made.model, features, known) == {}
    assert not any(k.reasons for k in known), "all days that it sees are there"
    assert features["mould_defect_rate"].null_count < 100


def test_a_day_that_is_missing_within_the_look_back_is_said(made: Made) -> None:
    settings = spec.sections(beside.NAME)["features"].model_validate({"days_from": DAYS[0], "trailing_hours": LOOKBACK})
    there = [day for day in DAYS if day != DAYS[-3]]
    state = made.model.online.state(
        {d: made.model.online.state_tables({"castings": made.kept(d)}) for d in there}, settings
    )
    known = parity.known(made.model, state, parity.asked(made.model, made.kept(DAYS[-1]).slice(0, 1)))
    assert f"{DAYS[-3]} has not landed" in known[0].reasons[0]


def test_a_feature_that_is_not_the_same_is_seen(made: Made) -> None:
    kept = made.kept(DAYS[0])
    features = pq.read_table(made.root / f"data/features/{DAYS[0]}.parquet")
    settings = spec.sections(beside.NAME)["features"].model_validate({"days_from": DAYS[0], "trailing_hours": 3})
    state = made.model.online.state({DAYS[0]: made.model.online.state_tables({"castings": kept})}, settings)
    known = parity.known(made.model, state, parity.asked(made.model, kept))
    assert list(parity.differences(made.model, features, known)) == ["mould_defect_rate"]
