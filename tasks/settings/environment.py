"""Where things are: the environment's side of the configuration, typed once (the params.yaml files say what, not where)."""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from tasks.core import network
from tasks.core.urls import url_of
from tasks.settings import addresses
from tasks.storage.artefacts import Store

CODE = Path(__file__).resolve().parents[2]


def archived() -> bool:
    """Whether this code is read from an archive, as Spark's processes do: whoever made it has checked what lies beside the code."""
    return not CODE.is_dir()


def _kept(service: str, default: str, **options: Any) -> Any:
    """A setting that nothing names: what the home's own service answered to last, not whatever has a usual port now."""
    return Field(default_factory=lambda found: addresses.of(found["home"]).get(service, default), **options)


def default_model(code: Path) -> str:
    """The model that a command of the checkout ``code`` works on unless it is given another; "" where none is named."""
    return _named("default_model", code / "params.yaml")


def _named(setting: str, file: Path) -> str:
    """The model that a top-level setting of a YAML file names, without the time to parse it; "" without one."""
    try:
        found = re.search(rf"^{setting}:\s*([a-z0-9_]+)", file.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return ""
    return found[1] if found else ""


class Environment(BaseSettings):
    """AIRLOOP_* variables; every one has a default that works on one machine."""

    model_config = SettingsConfigDict(env_prefix="AIRLOOP_", frozen=True, extra="ignore")

    code: Path = CODE
    """Checkout whose code and settings new runs copy."""
    model: str = ""
    """The model that this process works for: a folder of models/; by default the one of the run.yaml at hand, else
    the checkout's default model."""
    home: Path = CODE / ".airloop"
    """Folder of everything the embedded place writes."""
    store: str = ""
    """URL of the artefact store: a folder for each model, and the code of all."""
    landing: str = ""
    """URL of the landing zone, a folder for each model, that the feeds write and ingest reads."""
    dvc_remote: str = ""
    """URL or folder of the DVC remote."""
    dvc_cache: str = ""
    """Folder of DVC's local cache, shared by all runs on a machine."""
    studies: str = ""
    """Where searches are kept: a database as SQLAlchemy's URL (postgresql+psycopg2://...), or a file of Optuna's journal as a
    file: URL; one process at a time works on a study."""
    code_revision: str = ""
    """Code revision where there is no git (an image): set at build time."""
    mlflow_tracking_uri: str = _kept("mlflow", "http://127.0.0.1:5000", validation_alias="MLFLOW_TRACKING_URI")
    """MLflow's tracking server."""
    online_url: str = _kept("online", "http://127.0.0.1:8000")
    """The online prediction service, or its replicas separated by commas; empty where there is none to reconcile. Where
    each model has its own service, {model} is replaced by the model's name, with - for _."""
    online_deployment: str = ""
    """Deployment of the online service, as namespace/name, where deploying is its rollout; ``online_url`` is its Service.
    {model} as above."""

    @model_validator(mode="after")
    def _named_by_the_settings(self) -> Environment:
        if not self.model:
            object.__setattr__(self, "model", _named("model", Path("run.yaml")) or default_model(self.code))
        return self

    @property
    def store_url(self) -> str:
        """``store``, or the folder ``store`` in ``home``."""
        return self.store or url_of((self.home / "store").resolve())

    @property
    def landing_url(self) -> str:
        """``landing``, or the folder ``landing`` in ``home``."""
        return self.landing or url_of((self.home / "landing").resolve())

    @property
    def remote_url(self) -> str:
        """``dvc_remote``, or the folder ``remote`` in ``home``."""
        return self.dvc_remote or str((self.home / "remote").resolve())

    @property
    def studies_url(self) -> str:
        """``studies``, or the journal ``studies.journal`` in ``home``, which needs no server."""
        return self.studies or url_of((self.home / "studies.journal").resolve())

    @property
    def cache_dir(self) -> Path:
        """``dvc_cache``, or the folder ``cache`` in ``home``."""
        return Path(self.dvc_cache or self.home / "cache").resolve()


@cache
def environment() -> Environment:
    """The environment of this process, read once; from here on no client of it asks a proxy for loopback."""
    os.environ.update(network.settings(os.environ))
    return Environment()


def store(model: str = "") -> Store:
    """The part of the artefact store that is ``model``'s, by default of the model that this process works for."""
    return Store(environment().store_url).part(model or environment().model)


def landing(model: str = "") -> Store:
    """The part of the landing zone that is the feed's of ``model``, by default of the model that this process works for."""
    return Store(environment().landing_url).part(model or environment().model)


def trigger(dag: str, interval: str = "") -> str:
    """The command that starts a run of one of the model's DAGs, for the way out that an error names."""
    conf = f' -c \'{{"interval": "{interval}"}}\'' if interval else ""
    return f"airflow dags trigger {environment().model}.{dag}{conf}"
