"""A run's settings as one frozen, validated object: what is computed.

Each setting has a sentence, in the file that is named by whose setting it is (``*_params.py`` beside this one).
tasks/settings/settings_files.py says which section is in which file.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, create_model

from tasks.core.errors import ConfigError
from tasks.core.frozen import Frozen
from tasks.intervals.cadence import Calendar
from tasks.settings import settings_files
from tasks.settings.data_params import GoldenParams, Lookback, SpanParams, ValidateParams
from tasks.settings.environment import CODE, archived
from tasks.settings.gate_params import EvaluateParams, GateParams
from tasks.settings.monitor_params import MonitorParams
from tasks.settings.pod_params import PodParams
from tasks.settings.training_params import ExportParams, TrainParams
from tasks.settings.value_types import CADENCE, DayRule, IntervalKey, ModelName


class Params(Frozen):
    """All settings of a run."""

    default_model: ModelName
    """Folder of models/ that a command works on unless it is given another."""
    evaluate: EvaluateParams
    pods: PodParams
    span: SpanParams
    validate_: Annotated[ValidateParams, Field(alias="validate")]
    features: Any
    """Of the features, and of the online service's lookups: typed by the model (tasks.spec.sections)."""
    holdout: DayRule
    golden: GoldenParams
    train: TrainParams
    export: ExportParams
    gate: GateParams
    monitor: MonitorParams
    model: ModelName
    """Folder of models/ that the run is about."""
    intervals: Annotated[dict[IntervalKey, Lookback], Field(min_length=1)]
    """The run's intervals."""


@cache
def calendar(model: str) -> Calendar:
    """The calendar of the model's feed."""
    return settings_files.calendar_of(CODE, model)


@cache
def _with_the_model_s(name: str) -> type[Params]:
    """Params with the sections that are the model's own, as it types them."""
    from tasks import spec  # a record's types are read where no model is

    own: dict[str, Any] = {section: (kind, ...) for section, kind in spec.sections(name).items()}
    return create_model("Params", __base__=Params, **own)


def parse(raw: dict[str, Any], where: str = "") -> Params:
    """Validate all sections of a run.

    Args:
        raw: the sections of all three files.
        where: what the error's first line ends with: which checkout, or whose overrides.

    Raises:
        ConfigError: it lists every wrong setting with its file and value.
    """
    model = str(raw["model"])
    try:
        context = None if archived() else {CADENCE: calendar(model).cadence}
        return _with_the_model_s(model).model_validate(raw, context=context)
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            setting = ".".join(str(part) for part in problem["loc"])
            file = settings_files.file_of(str(problem["loc"][0]), model)
            got = "" if problem["type"] == "missing" else f" (got {problem['input']!r})"
            lines.append(f"  {file}: {setting}: {problem['msg']}{got}")
        raise ConfigError(
            f"{len(lines)} setting(s) to correct{where}:\n"
            + "\n".join(lines)
            + "\nEach setting is explained in tasks/settings/, those of the model in its own folder."
        ) from None


def load(root: Path = Path()) -> Params:
    """Read and validate the settings of the run whose workspace is ``root``; the checkout may be one, with its run.yaml."""
    run = settings_files.read_run(root)
    return parse({**settings_files.read(root, run["model"]), **run}, f" in {root.resolve()}")


def of_model(root: Path, model: str) -> Params:
    """Read and validate the settings that the checkout at ``root`` has for ``model``, with the model's own span."""
    run = settings_files.rendered(root, model)
    return parse({**settings_files.read(root, model), **run}, f" in {root.resolve()}")
