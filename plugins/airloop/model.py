"""The models that DAGs and pages are made for: each folder of models/ with a spec.json, which is read as text.

Cheap, since Airflow reads all of them whenever it parses a DAG file. One that is broken hides none of the others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow.sdk import get_parsing_context

from airloop.settings import code
from tasks.core.errors import ConfigError
from tasks.core.model_names import check
from tasks.intervals.cadence import Cadence, parse

SPEC = "spec.json"
SCHEMA = 1


@dataclass(frozen=True)
class Model:
    """What Airflow needs to know of a model."""

    name: str
    owner: str
    cadence: Cadence
    first: str
    """Key of the first interval."""
    last: str | None
    """Key of the last interval; None for a feed that goes on."""

    def dag_id(self, dag: str) -> str:
        """``ingest`` as ``<model>.ingest``."""
        return f"{self.name}.{dag}"


@dataclass(frozen=True)
class BrokenModel:
    """A folder of models/ whose spec.json cannot be used."""

    folder: str
    problem: str
    """File, field, value and way out."""

    @property
    def dag_id(self) -> str:
        """Id of the DAG that shows the problem; Airflow takes letters, digits, dashes, dots and underscores, 250 at most."""
        return f"{re.sub('[^A-Za-z0-9_-]', '_', self.folder)[:200]}.broken"


def models() -> list[Model]:
    """Those that can be read, by name. In the process of a task, only the task's own.

    Raises:
        ConfigError: the task's own model cannot be read.
    """
    if mine := _of_task():
        return [read(_root() / mine)]
    return [found for found in all_models() if isinstance(found, Model)]


def find(name: str) -> Model:
    """The model called ``name``; ConfigError when there is none, or it cannot be read."""
    known = {folder.name: folder for folder in _folders()}
    if name not in known:
        raise ConfigError(f"There is no model {name!r} in models/; there are {', '.join(known) or 'none'}.")
    return read(known[name])


def broken_models() -> list[BrokenModel]:
    """Those that cannot be read. In the process of a task, none."""
    return [] if _of_task() else [found for found in all_models() if isinstance(found, BrokenModel)]


def all_models() -> Iterator[Model | BrokenModel]:
    """Each folder of models/ that has a spec.json, by name."""
    for folder in _folders():
        try:
            yield read(folder)
        except ConfigError as error:
            yield BrokenModel(folder.name, str(error))


def read(folder: Path) -> Model:
    """The model in ``folder``; ConfigError with file, field, value and way out."""
    file = f"{folder.parent.name}/{folder.name}/{SPEC}"
    try:
        spec = json.loads((folder / SPEC).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{file} cannot be read: {error}. Correct it, or take the folder away.") from None
    try:
        return _model(folder.name, spec)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from None


def _model(folder: str, spec: Any) -> Model:
    """Raises ConfigError for the first field that is wrong; what Airflow does not need is not looked at."""
    if not isinstance(spec, dict):
        raise ConfigError(
            f"it holds a {type(spec).__name__}; write an object with name, owner, cadence, first and last."
        )
    if spec.get("schema") != SCHEMA:
        raise ConfigError(f"schema={spec.get('schema')!r} is unknown; this code reads schema {SCHEMA}.")
    calendar = parse(spec)
    return Model(
        _name(folder, spec), _text("owner", spec.get("owner")), calendar.cadence, calendar.first, calendar.last
    )


def _name(folder: str, spec: Mapping[str, Any]) -> str:
    name = _text("name", spec.get("name"))
    if name != folder:
        raise ConfigError(f"name={name!r} differs from the folder's, {folder!r}; make them equal.")
    return check(name)


def _text(field: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"{field}={value!r} is no text; write one.")
    return value


def _folders() -> list[Path]:
    return sorted(path.parent for path in _root().glob(f"*/{SPEC}"))


def _of_task() -> str | None:
    """The model of the task whose process this is; None where Airflow parses files for all."""
    dag = get_parsing_context().dag_id
    return dag.partition(".")[0] if dag else None


def _root() -> Path:
    return code() / "models"
