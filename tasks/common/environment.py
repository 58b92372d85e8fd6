"""Where things are: the environment's side of the configuration, typed once (params.yaml says what, not where)."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from tasks.common.artefacts import Store

CODE = Path(__file__).resolve().parents[2]


class Environment(BaseSettings):
    """AIRLOOP_* variables; every one has a default that works on one machine."""

    model_config = SettingsConfigDict(env_prefix="AIRLOOP_", frozen=True, extra="ignore")

    code: Path = CODE
    """Checkout whose tasks/, dvc.yaml and params.yaml new runs copy."""
    home: Path = CODE / ".airloop"
    """Folder of everything the embedded place writes."""
    store: str = ""
    """URL of the artefact store: ledger, records, models, state, predictions, reports."""
    landing: str = ""
    """URL of the landing zone that the feed writes and ingest reads."""
    dvc_remote: str = ""
    """URL or folder of the DVC remote."""
    dvc_cache: str = ""
    """Folder of DVC's local cache, shared by all runs on a machine."""
    studies: str = ""
    """SQLAlchemy URL of the database of searches (postgresql+psycopg2://...); one process at a time works on a study."""
    code_revision: str = ""
    """Code revision where there is no git (an image): set at build time."""
    mlflow_tracking_uri: str = Field("http://127.0.0.1:5000", validation_alias="MLFLOW_TRACKING_URI")
    """MLflow's tracking server."""
    online_url: str = "http://127.0.0.1:8000"
    """The online prediction service, or its replicas separated by commas; empty where there is none to reconcile."""
    online_deployment: str = ""
    """Deployment of the online service, as namespace/name, where deploying is its rollout; ``online_url`` is its Service."""

    @property
    def store_url(self) -> str:
        """``store``, or the folder ``store`` in ``home``."""
        return self.store or (self.home / "store").resolve().as_uri()

    @property
    def landing_url(self) -> str:
        """``landing``, or the folder ``landing`` in ``home``."""
        return self.landing or (self.home / "landing").resolve().as_uri()

    @property
    def remote_url(self) -> str:
        """``dvc_remote``, or the folder ``remote`` in ``home``."""
        return self.dvc_remote or str((self.home / "remote").resolve())

    @property
    def studies_url(self) -> str:
        """``studies``, or the SQLite file ``studies.db`` in ``home``."""
        return self.studies or f"sqlite:///{(self.home / 'studies.db').resolve()}"

    @property
    def cache_dir(self) -> Path:
        """``dvc_cache``, or the folder ``cache`` in ``home``."""
        return Path(self.dvc_cache or self.home / "cache").resolve()


@cache
def environment() -> Environment:
    """The environment of this process, read once."""
    return Environment()


def store() -> Store:
    """The artefact store that the environment names."""
    return Store(environment().store_url)
