"""What the engine may know of a model: the types that a model declares itself with, and the only import of models/.

What needs a heavy library is `Deferred`: whoever wants a column's name pays for nothing else. Nor does this module load one:
a run begins with the settings' types alone (`sections`).
"""

from __future__ import annotations

import datetime as dt
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from tasks.core.errors import ConfigError
from tasks.core.model_names import check
from tasks.intervals.cadence import Cadence, Calendar, Daily, Hourly, Monthly
from tasks.settings.environment import CODE, environment

if TYPE_CHECKING:
    import pyarrow as pa
    from pydantic import BaseModel

    from tasks.storage.artefacts import Store
    from tasks.storage.state_file import StateFile

__all__ = ["Cadence", "Daily", "Hourly", "Monthly"]
"""What a model's folder takes from here although it is defined elsewhere."""

UNREADABLE = "unreadable"
"""The raw tables' extra column: the cells that could not be typed, null when all could."""

Rows = Any
"""A pandas DataFrame,"""
Column = Any
"""and a Series. Airflow's pages read records of this package, and must not load pandas: not by name either."""

Settings = Any
"""The section ``features`` of the model's params.yaml, as the class that the model brings has validated it."""


@dataclass(frozen=True)
class Deferred:
    """A function that is imported when it is called. spec.json names it by its path."""

    path: str
    """Its module and name, as ``models.<name>.rules:broken_rules``."""

    def __call__(self, *arguments: Any) -> Any:
        """Import the function and call it."""
        module, _, name = self.path.partition(":")
        return getattr(importlib.import_module(module), name)(*arguments)


@dataclass(frozen=True)
class Table:
    """One table of the feed."""

    feed: tuple[str, ...]
    """Columns of the landed file that are read; others may come and go."""
    kept: pa.Schema
    """Columns and types of what is kept."""
    order: tuple[str, ...]
    """How its files are sorted."""
    unique: tuple[str, ...]
    """What at most one kept row may have in common."""
    may_be_empty: bool = False
    """Whether an interval without a row is a good one; if not, a file with a header alone is refused."""

    @property
    def raw(self) -> pa.Schema:
        """Columns and types of what was read, with what could not be."""
        import pyarrow as pa  # see above

        return self.kept.append(pa.field(UNREADABLE, pa.string()))


@dataclass(frozen=True)
class View:
    """A table as the features' SQL sees it."""

    table: str
    span: Literal["interval", "before", "all"]
    """Rows of the interval itself, of the tails that its look-back sees, or both."""


@dataclass(frozen=True)
class Group:
    """Features that are missing together when a part of the feed is out."""

    name: str
    """What people call it."""
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Golden:
    """Which rows make the golden set."""

    strata: tuple[str, ...]
    """The golden set has these in the proportions of the eligible rows."""
    represented: str
    """Each value of this column has a least number of rows: golden.min_rows_per_value."""


@dataclass(frozen=True)
class Words:
    """How people speak of it, in reports."""

    rows: str
    """What is predicted, plural."""
    positive: str
    """The outcome that the probability is of,"""
    negative: str
    """and the other one."""
    planned: str
    """What the planned columns are a part of,"""
    planned_by: str
    """and who plans them."""


class Request(Protocol):
    """One checked request: a pydantic model."""

    model_fields: ClassVar[dict[str, Any]]

    @classmethod
    def model_validate(cls, content: Any) -> Request:
        """A request from what somebody sent; pydantic.ValidationError says what is wrong with it."""

    def to_entity(self) -> Any:
        """What the request is about, as the state takes it."""

    def logged(self) -> dict[str, Any]:
        """What the prediction log keeps of it."""


@dataclass(frozen=True, slots=True)
class Known:
    """What was known of one entity at its cutoff."""

    features: dict[str, Any]
    """Value of each model input by name; None is unknown."""
    as_of: int
    """The cutoff, seconds since the epoch, UTC."""
    reasons: list[str] = field(default_factory=list)
    """Sentences on what could not be known though it normally is; empty when nothing is missing."""


class State(Protocol):
    """What has landed, ready to be asked."""

    params: Settings
    """Settings that its features are made with."""
    intervals: list[str]
    """Intervals that it holds."""
    as_of: int | None
    """Time of the last event that has landed, seconds since the epoch; None when nothing has."""

    def known(self, entity: Any) -> Known:
        """Every feature of ``entity`` as it was known at its cutoff."""


@dataclass(frozen=True)
class Form:
    """The page on which a person asks the service."""

    question: str
    """Its heading."""
    verdict: str
    """What follows the percentage in the answer."""
    labels: Mapping[str, str]
    """Field of the request to its label."""


@dataclass(frozen=True)
class Online:
    """How the service is asked, and how it answers."""

    description: str
    """A sentence or two on what it predicts."""
    many: str
    """Key of the list in a body with several requests."""
    answer: str
    """Key of the probability in an answer,"""
    answer_description: str
    """and what it is."""
    request: Callable[[], type[Any]]
    """Gives the class of a request (``Request``)."""
    examples: tuple[Mapping[str, Any], ...]
    """Requests as JSON: the first is shown in errors and asked before a model goes live."""
    as_asked: Callable[[Mapping[str, Any]], dict[str, Any]]
    """The request, as JSON, for a row with the columns ``asked``."""
    form: Form
    state: Callable[[Mapping[str, Mapping[str, pa.Table]], Settings], State]
    """The state of intervals from their state tables by name."""
    state_tables: Callable[[Mapping[str, pa.Table]], dict[str, pa.Table]]
    """What the state needs of an interval's kept tables; sorted, so that equal rows are equal bytes."""
    read_state: Callable[[Store, Mapping[str, StateFile]], dict[str, pa.Table]]
    """The state tables of an interval from the files that its landing names, verified."""


@dataclass(frozen=True)
class Example:
    """The feed of an example, for whoever has none: `make demo` and the benchmarks land it."""

    first_model: str
    """Interval whose landing brings the first model."""
    last: str
    """Last interval that the example has."""
    source: Callable[[], Path]
    """Its verified file, fetched if need be."""
    read: Callable[[Path, Sequence[str]], Any]
    """What has to land for these intervals, of all when there is none."""
    land: Callable[[str, Any, Store], dict[str, int]]
    """Land one interval of that; returns rows by table."""
    ask_later: Callable[[Mapping[str, Any]], dict[str, Any]]
    """The request, as JSON, for a landed row with the columns ``asked``, as if it came some weeks later."""


@dataclass(frozen=True)
class ModelSpec:
    """Everything the engine asks of a model. `airloop render` writes it to spec.json, as tasks/spec_file.py describes."""

    name: str
    """Its folder in models/."""
    owner: str
    """Who answers for it: the owner of its DAGs, and the label of its costs."""
    cadence: Cadence
    first: str
    """Key of the first interval, as ``2013-01``,"""
    last: str | None
    """and of the last one; None for a feed that goes on."""
    key: Mapping[str, str]
    """Columns that identify a row of features, and order its file, to their types in Spark."""
    label: str
    """The outcome: 1, 0, or null while it is unknown. A column of the label files, never of features."""
    categories: tuple[str, ...]
    """Text features, which come first among the model's inputs."""
    numbers: tuple[str, ...]
    """Numeric features, all float64."""
    date: str
    """Column of the date that reports go by. Its number is the column ``day``, the unit of noise."""
    tables: Mapping[str, Table]
    """Tables of the feed by name; one file each: ``<table>.csv.gz``."""
    rows: str
    """The table whose rows are predicted."""
    land_command: str
    """Command by which the feed lands an interval, with ``{interval}`` in it."""
    typed: Callable[[str, Rows, Column], pa.Table]
    """The raw table of a name from its landed cells as text, and what is wrong with a row as a whole ("" for nothing)."""
    broken_rules: Callable[[pa.Table, str, str], Column]
    """For each row of a raw table, by its name and interval, the rules that it breaks, "; "-joined; "" for a good row."""
    tail: Callable[[pa.Table, str, str, Settings], pa.Table]
    """The rows of a kept table, by its name and interval, that the look-back of later intervals can still see."""
    labels: Callable[[Mapping[str, pa.Table], Settings], pa.Table]
    """The outcomes in an interval's kept tables: the key's columns and the label (int8, no null), a row each."""
    views: Mapping[str, View]
    """What the features' SQL reads."""
    features_sql: Callable[[Settings, str], str]
    """SQL of the features of each row of the interval; the second argument is a hint for the engine, such as Spark's."""
    duckdb_macros: str
    """SQL that DuckDB runs first: macros for what only Spark has."""
    golden_set: Golden
    asked: tuple[str, ...]
    """Columns of a row, of features or kept, from which its request can be made."""
    planned: tuple[str, ...]
    """Features that are planned ahead: a jump in how they are spread is a broken feed rather than a season."""
    outage: Group
    shown_categories: tuple[str, ...]
    """Columns that the drift report draws as bars,"""
    shown_numbers: tuple[str, ...]
    """and as distributions."""
    shown: tuple[str, ...]
    """What a lineage shows of a batch or online prediction beside the probability."""
    words: Words
    online: Online
    example: Example | None = None
    maturity: dt.timedelta = dt.timedelta(0)
    """How long after the end of a row's interval its outcome can land; zero: with the interval itself."""
    own_words: frozenset[str] = frozenset()
    """Further words that belong to the model alone: tests/contracts looks for them elsewhere."""

    @property
    def features(self) -> tuple[str, ...]:
        """Model inputs, in the order of the feature contract."""
        return (*self.categories, *self.numbers)

    @property
    def calendar(self) -> Calendar:
        """Its intervals, and when their labels are known."""
        return Calendar(self.cadence, self.first, self.last, self.maturity)

    @property
    def quarantine(self) -> pa.Schema:
        """All tables' raw columns as text, with where each row is from and all that is wrong with it."""
        import pyarrow as pa  # see above

        columns = dict.fromkeys(name for table in self.tables.values() for name in table.raw.names)
        return pa.schema({name: pa.string() for name in ("table", "reason", *columns)})


def names() -> list[str]:
    """Sorted names of the folders of models/ that declare a model."""
    return sorted(path.parent.name for path in (CODE / "models").glob("*/model.py"))


@cache
def load(name: str) -> ModelSpec:
    """The model in ``models/<name>/``.

    Raises:
        ConfigError: there is none, its declaration is not sound, or its spec.json is older than the declaration.
    """
    from tasks import spec_file  # it needs the types here

    found = declared(name)
    spec_file.require_rendered(found)
    return found


def declared(name: str) -> ModelSpec:
    """What ``models/<name>/model.py`` declares, whatever spec.json holds; ConfigError when it is no sound ModelSpec of that name."""
    from tasks import spec_check  # likewise

    found = getattr(_module(name, "model"), "MODEL", None)
    if not isinstance(found, ModelSpec) or found.name != name:
        raise ConfigError(f"models/{name}/model.py has no MODEL = ModelSpec(name={name!r}, ...); add it.")
    spec_check.require_sound(found)
    return found


def sections(name: str) -> Mapping[str, type[BaseModel]]:
    """Sections of the settings that are the model's own, to the classes that validate them; ``features`` is one.

    ``SECTIONS`` of ``models/<name>/params.py``; ConfigError when there is none.
    """
    found: Mapping[str, type[BaseModel]] | None = getattr(_module(name, "params"), "SECTIONS", None)
    if not found or "features" not in found:
        raise ConfigError(f"models/{name}/params.py has no SECTIONS with the class of its section features; add it.")
    if not isinstance(getattr(found["features"], "lookback", None), property):
        raise ConfigError(
            f"models/{name}/params.py: {found['features'].__name__} has no property lookback, a datetime.timedelta: how far "
            "features look back from the start of their interval; add it (timedelta(0): not at all)."
        )
    return found


def _module(name: str, part: str) -> ModuleType:
    check(name)
    module = f"models.{name}.{part}"
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if not module.startswith(error.name or ""):
            raise
        raise ConfigError(
            f"model={name!r} has no models/{name}/{part}.py; name a folder of models/ as `default_model` in params.yaml or as AIRLOOP_MODEL."
        ) from None


def current() -> ModelSpec:
    """The model that this process works for."""
    return load(environment().model)


def example() -> Example:
    """The example feed of the model that this process works for; ConfigError when it has none."""
    model = current()
    if model.example is None:
        raise ConfigError(
            f"models/{model.name} has no example feed to play with; choose a model that declares `example`."
        )
    return model.example
