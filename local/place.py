"""Where one machine's Airloop lives."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

HOST = "127.0.0.1"
PORTS = {"AIRLOOP_AIRFLOW_PORT": 8080, "AIRLOOP_MLFLOW_PORT": 5000, "AIRLOOP_ONLINE_PORT": 8000}
"""The variables that move the services, with their defaults."""
DEMO_STEP = 100
"""The demo's ports are those of `airloop up` and this more, so that both can be up."""


@dataclass(frozen=True)
class Place:
    """Where this machine's Airloop lives: its home folder, its code and its ports on 127.0.0.1."""

    home: Path
    code: Path
    """The checkout whose dags, plugins and tasks run; another than this one only in tests."""
    airflow_port: int
    mlflow_port: int
    online_port: int
    mlflow_path: str = ""
    """Begins each path of MLflow's server, such as `/home-1a2b3c4d`: under another home's address it answers 404."""

    @property
    def ports(self) -> dict[str, int]:
        """The ports by the variables that move them."""
        return dict(zip(PORTS, (self.airflow_port, self.mlflow_port, self.online_port), strict=True))

    @property
    def airflow_url(self) -> str:
        """Airflow's web pages and API, without a slash at the end."""
        return f"http://{HOST}:{self.airflow_port}"

    @property
    def mlflow_url(self) -> str:
        """MLflow's tracking server, without a slash at the end."""
        return f"http://{HOST}:{self.mlflow_port}{self.mlflow_path}"

    @property
    def online_url(self) -> str:
        """The prediction service, without a slash at the end."""
        return f"http://{HOST}:{self.online_port}"


def mlflow_path(home: Path) -> str:
    """What the paths of this home's MLflow begin with: no other home's, and the same at each start."""
    return f"/home-{hashlib.sha256(os.fsencode(home)).hexdigest()[:8]}"
