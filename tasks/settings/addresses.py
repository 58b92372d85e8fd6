"""Where the services of a home answer, as its last start has kept it: what a stage run by hand goes by."""

from __future__ import annotations

import json
from pathlib import Path

FILE = "addresses.json"
"""In the home: a JSON object of ``airflow``, ``mlflow`` and ``online`` to URLs."""


def of(home: Path) -> dict[str, str]:
    """The addresses by service; empty where the home's services never were up."""
    try:
        kept = json.loads((home / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(name): str(url) for name, url in kept.items()} if isinstance(kept, dict) else {}
