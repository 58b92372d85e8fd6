"""The DAGs of dags/, parsed once for all tests that look at them."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from tests.airflow_home import ROOT, use

NAMES = ("ingest", "train", "deploy", "score", "monitor")
"""Of the files of dags/, each of which makes its DAG for every model."""
MODELS = tuple(sorted(path.parent.name for path in ROOT.glob("models/*/spec.json")))
DAG_IDS = tuple(f"{model}.{name}" for model in MODELS for name in NAMES)


def parse() -> Any:
    """Airflow's own DagBag over dags/, by this process's environment."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Airflow's own parts
        from airflow.dag_processing.dagbag import DagBag

        return DagBag(dag_folder=str(ROOT / "dags"), bundle_path=ROOT / "dags", bundle_name="dags-folder")


@cache
def bag() -> Any:
    """The DAGs of this checkout's models."""
    use()
    return parse()


def dag(dag_id: str) -> Any:
    """One DAG; a broken file shows as the error that Airflow would show."""
    assert not bag().import_errors, bag().import_errors
    return bag().dags[dag_id]


@cache
def stored(dag_id: str) -> Any:
    """The DAG as the scheduler sees it: written to the database's form and read back."""
    return restored(dag(dag_id))


def restored(parsed: Any) -> Any:
    """A parsed DAG, written to the database's form and read back."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # reading it back makes Airflow load its plugins, and that warns
        from airflow.serialization.serialized_objects import DagSerialization

        return DagSerialization.from_dict(DagSerialization.to_dict(parsed))


def checkout(folder: Path, specs: Mapping[str, object]) -> Path:
    """Make a checkout in ``folder`` whose models/ has these folders.

    Args:
        folder: is made.
        specs: by folder, its spec.json: text as it is, anything else as JSON.
    """
    for name, spec in specs.items():
        (folder / "models" / name).mkdir(parents=True)
        text = spec if isinstance(spec, str) else json.dumps(spec)
        (folder / "models" / name / "spec.json").write_text(text)
    for name in ("dvc.yaml", "jobs.yaml", "params.yaml"):
        shutil.copy(ROOT / name, folder)
    return folder


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Set variables of this process for the block."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
