"""The DAGs of dags/, parsed once for all tests that look at them."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

from tests.airflow_home import ROOT, use

DAG_IDS = ("ingest", "train", "deploy", "score", "monitor")


@cache
def bag() -> Any:
    """Airflow's own DagBag over dags/."""
    use()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Airflow's own parts
        from airflow.dag_processing.dagbag import DagBag

        return DagBag(dag_folder=str(ROOT / "dags"), bundle_path=ROOT / "dags", bundle_name="dags-folder")


def dag(dag_id: str) -> Any:
    """One DAG; a broken file shows as the error that Airflow would show."""
    assert not bag().import_errors, bag().import_errors
    return bag().dags[dag_id]


@cache
def stored(dag_id: str) -> Any:
    """The DAG as the scheduler sees it: written to the database's form and read back."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # reading it back makes Airflow load its plugins, and that warns
        from airflow.serialization.serialized_objects import DagSerialization

        return DagSerialization.from_dict(DagSerialization.to_dict(dag(dag_id)))
