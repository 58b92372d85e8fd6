"""What a stage tells whoever started it: names and numbers in small JSON, never data."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tasks.common.artefacts import to_json, write_atomic

RESULT_VARIABLE = "AIRLOOP_RESULT"


def emit(result: dict[str, Any]) -> None:
    """Write ``result`` as JSON to the file that AIRLOOP_RESULT names; without the variable, do nothing."""
    if path := os.environ.get(RESULT_VARIABLE):
        write_atomic(Path(path), to_json(result))
