"""Where one machine's Airloop lives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

HOST = "127.0.0.1"
PORTS = {"AIRLOOP_AIRFLOW_PORT": 8080, "AIRLOOP_MLFLOW_PORT": 5000, "AIRLOOP_ONLINE_PORT": 8000}
"""The variables that move the services, with their defaults."""


@dataclass(frozen=True)
class Place:
    """Where this machine's Airloop lives: its home folder, its code and its ports on 127.0.0.1."""

    home: Path
    code: Path
    """The checkout whose dags, plugins and tasks run; another than this one only in tests."""
    airflow_port: int
    mlflow_port: int
    online_port: int

    @property
    def airflow_url(self) -> str:
        """Airflow's web pages and API, without a slash at the end."""
        return f"http://{HOST}:{self.airflow_port}"

    @property
    def mlflow_url(self) -> str:
        """MLflow's tracking server, without a slash at the end."""
        return f"http://{HOST}:{self.mlflow_port}"

    @property
    def online_url(self) -> str:
        """The prediction service, without a slash at the end."""
        return f"http://{HOST}:{self.online_port}"
