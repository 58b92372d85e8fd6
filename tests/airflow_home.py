"""Sets Airflow's environment for tests that import it; a conftest imports this before anything imports Airflow."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def variables(home: str) -> dict[str, str]:
    """An Airflow of its own in ``home``: nothing of the developer's is read or written."""
    return {
        "AIRFLOW_HOME": home,
        "AIRFLOW_CONFIG": str(Path(home) / "airflow.cfg"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
    }


def use() -> None:
    """Make it so for this process, once."""
    if "airflow" not in sys.modules:
        home, owner = tempfile.mkdtemp(prefix="airloop-test-airflow-"), os.getpid()
        atexit.register(lambda: owner == os.getpid() and shutil.rmtree(home, ignore_errors=True))
        os.environ.update(variables(home))
    for name in [name for name in os.environ if name.startswith(("AIRLOOP_PLACE", "AIRLOOP_IMAGE", "AIRLOOP_CODE"))]:
        del os.environ[name]
