"""How long what is kept by age alone stays. What a model, a landed interval or an open run needs stays whatever its age."""

from __future__ import annotations

from functools import cache
from typing import Annotated

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from tasks.core.errors import ConfigError

Days = Annotated[float, Field(ge=0)]


class Retention(BaseSettings):
    """AIRLOOP_RETAIN_* variables, all in days."""

    model_config = SettingsConfigDict(env_prefix="AIRLOOP_RETAIN_", frozen=True, extra="ignore")

    grace: Days = 2.0
    """How old anything must at least be: a run that is under way may be about to name it. Longer than the longest run."""
    workspaces: Days = 7.0
    """Workspaces of runs, since they were last worked in; a cleared task makes its workspace again from the run's record."""
    records: Days = 730.0
    """Records of runs (and of searches) that made neither a registered model nor the present data of an interval."""
    data: Days = 30.0
    """What such runs made: their task cannot be cleared after that, and the model cannot be rebuilt."""
    checkpoints: Days = 14.0
    """Checkpoints of trainings that were given up."""
    predictions: Days = 400.0
    """The online service's prediction log, and which data it saw."""
    tracking: Days = 180.0
    """MLflow's runs, but those that a registered model came from."""
    logs: Days = 30.0
    """Logs of Airflow's tasks, on one machine."""
    history: Days = 180.0
    """Rows of past runs in Airflow's database, on one machine."""


@cache
def retention() -> Retention:
    """The settings of this process, read once; ConfigError names the one that is no number of days."""
    try:
        return Retention()
    except ValidationError as error:
        wrong = error.errors()[0]
        name = f"AIRLOOP_RETAIN_{wrong['loc'][0]}".upper()
        raise ConfigError(f"{name}={wrong['input']!r} is no number of days (0 or more).") from None
