"""The online service's prediction log: segments of JSON lines in the store, and how a prediction is found in it.

An object store cannot append, so a process writes small segments, each whole. A prediction's id says where its line
is: ``<model>.online.<UTC day>.v<version>.<process><segment><line>``, the last three in 8 hex digits each.
"""

from __future__ import annotations

import json
import re
from typing import Any

from tasks.core.errors import DataError
from tasks.storage.artefacts import Store

SCHEMA = 2
"""Version of a line; one without is of version 1, whose id does not begin with the model's name."""

_ID = re.compile(r"[a-z0-9_]+\.online\.(\d{4}-\d{2}-\d{2})\.v(\d+)\.([0-9a-f]{8})([0-9a-f]{8})([0-9a-f]{8})")


def prediction_id(model: str, day: str, version: int, process: str, segment: int, line: int) -> str:
    """The id of a prediction.

    Args:
        model: name of the model.
        day: YYYY-MM-DD, UTC.
        version: of the model.
        process: 8 hex digits that only one process of the service has.
        segment: of the log that the process writes, from 0.
        line: of the segment, from 0.
    """
    return f"{model}.online.{day}.v{version}.{process}{segment:08x}{line:08x}"


def segment_name(day: str, process: str, segment: int) -> str:
    """Name of a segment in the store."""
    return f"online/{day}/{process}-{segment:08x}.jsonl"


def state_name(digest: str) -> str:
    """Name in the store of the record that says which files of which intervals a state digest stands for."""
    return f"online/states/{digest}.json"


def find(store: Store, prediction: str) -> dict[str, Any] | None:
    """What was logged of a prediction and where (``kept_in``), None when the log does not hold it (lost in a crash, or not yet flushed).

    DataError when ``prediction`` is not the id of an online prediction.
    """
    found = _ID.fullmatch(prediction)
    if found is None:
        raise DataError(
            f"{prediction!r} is not the id of an online prediction (<model>.online.<day>.v<version>.<24 hex digits>)."
        )
    day, _, process, segment, line = found.groups()
    name = segment_name(day, process, int(segment, 16))
    try:
        lines = store.read(name).splitlines()
    except FileNotFoundError:
        return None
    if int(line, 16) >= len(lines):
        return None
    record: dict[str, Any] = json.loads(lines[int(line, 16)])
    return {**record, "kept_in": store.uri(name)} if record["prediction_id"] == prediction else None
