"""What a folder of models/ makes: five DAGs of its own, or one that says why there are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import Asset

from tasks.core.errors import ConfigError
from tasks.core.model_names import check
from tests.airflow_dags import NAMES, checkout, environment, parse, restored
from tests.airflow_home import ROOT

FLIGHTS = json.loads((ROOT / "models/flights/spec.json").read_text())
SECOND = {**FLIGHTS, "name": "second", "owner": "team-two", "first": "2014-05", "last": None}


def ids(*models: str) -> set[str]:
    return {f"{model}.{name}" for model in models for name in NAMES}


def bag_of(folder: Path, specs: dict[str, object], **variables: str) -> Any:
    """The DAGs of a checkout whose models/ has these folders."""
    with environment(AIRLOOP_CODE=str(checkout(folder, specs)), **variables):
        return parse()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return bag_of(tmp_path_factory.mktemp("two"), {"flights": FLIGHTS, "second": SECOND})


def assets_of(bag: Any, model: str) -> set[str]:
    """Names of all assets that the model's DAGs announce or wait for."""
    dags = [bag.dags[dag_id] for dag_id in sorted(ids(model))]
    outlets = {asset.name for dag in dags for task in dag.tasks for asset in task.outlets if isinstance(asset, Asset)}
    awaited = [restored(dag).timetable.asset_condition.iter_assets() for dag in dags if dag.dag_id != f"{model}.ingest"]
    return outlets | {key.name for found in awaited for key, _ in found}


def test_another_folder_makes_five_more_dags(two: Any) -> None:
    assert not two.import_errors
    assert set(two.dags) == ids("flights", "second")


def test_two_models_share_no_asset_and_no_task(two: Any) -> None:
    first, second = assets_of(two, "flights"), assets_of(two, "second")
    assert len(first) == len(second) == 6
    assert {name.partition("/")[0] for name in first} == {"flights"}
    assert {name.partition("/")[0] for name in second} == {"second"}
    tasks = [task for dag_id in ids("second") for task in two.dags[dag_id].tasks]
    assert {task.model for task in tasks if hasattr(task, "model")} == {"second"}


def test_a_dag_has_the_owner_and_the_calendar_of_its_model(two: Any) -> None:
    ingest = two.dags["second.ingest"]
    assert {task.owner for task in ingest.tasks} == {"team-two"}
    assert (f"{ingest.start_date:%Y-%m-%d}", ingest.end_date) == ("2014-05-01", None)
    assert {"airloop", "second"} <= set(ingest.tags)
    assert "--dag-id second.ingest" in ingest.doc_md


def test_in_the_process_of_a_task_only_its_own_dag_is_made(tmp_path: Path) -> None:
    specs = {"flights": FLIGHTS, "second": SECOND, "third": "{"}
    running = {"_AIRFLOW_PARSING_CONTEXT_DAG_ID": "second.train", "_AIRFLOW_PARSING_CONTEXT_TASK_ID": "gate"}
    bag = bag_of(tmp_path, specs, **running)
    assert set(bag.dags) == ids("second"), "a task parses one of these files; no other model is read"
    assert not bag.import_errors


def test_a_task_whose_model_is_broken_says_why(tmp_path: Path) -> None:
    bag = bag_of(tmp_path, {"flights": "{"}, _AIRFLOW_PARSING_CONTEXT_DAG_ID="flights.train")
    assert all("models/flights/spec.json cannot be read" in error for error in bag.import_errors.values())
    assert len(bag.import_errors) == len(NAMES)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("{", "models/second/spec.json cannot be read: Expecting property name"),
        ({**SECOND, "cadence": {"kind": "weekly", "zone": "UTC"}}, "cadence.kind='weekly' is unknown"),
    ],
)
def test_a_broken_folder_shows_as_one_paused_dag_and_hides_no_other(tmp_path: Path, spec: object, said: str) -> None:
    bag = bag_of(tmp_path, {"another": {**FLIGHTS, "name": "another"}, "flights": FLIGHTS, "second": spec})
    assert not bag.import_errors
    assert set(bag.dags) == {*ids("another", "flights"), "second.broken"}
    broken = restored(bag.dags["second.broken"])
    assert broken.is_paused_upon_creation and broken.tags == {"airloop", "broken"} and not broken.task_ids
    assert said in broken.description and said in broken.doc_md


def test_a_broken_folder_of_any_name_hides_no_other(tmp_path: Path) -> None:
    names = ["Mein Modell", "ü" * 80, "..x", "a.b", "a" * 240]
    bag = bag_of(tmp_path, {"flights": FLIGHTS, **dict.fromkeys(names, "{}")})
    assert not bag.import_errors
    assert len(set(bag.dags) - ids("flights")) == len(names)
    for name in names:
        with pytest.raises(ConfigError):
            check(name)


def test_a_folder_without_a_spec_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "models/__pycache__").mkdir(parents=True)
    assert set(bag_of(tmp_path, {"flights": FLIGHTS}).dags) == ids("flights")
