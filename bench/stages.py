"""Seconds and peak memory of every stage and act, run by its own command in the workspace that has what it reads.

2013-03 is the month, and the model is trained on January to March.
"""

from __future__ import annotations

from pathlib import Path

from bench.frame import Row, timed
from bench.home import LAST, Home

INGEST = ("manifest", "ingest", "validate", "features", "publish")
TRAIN = ("golden", "train", "resolve", "evaluate", "gate", "register")
SPARK = frozenset({"features", "score"})


def measure(home: Home, repeats: int) -> list[Row]:
    """One row for each stage and act."""
    places: dict[str, Path] = dict.fromkeys(INGEST, home.ingested(LAST)) | dict.fromkeys(TRAIN, home.trained)
    places |= {act: home.workspace(f"{act}-{LAST}") for act in ("score", "monitor")}
    rows = []
    for stage, place in places.items():
        note = "with the start of its JVM" if stage in SPARK else ""
        rows.append(timed(f"{stage}", lambda s=stage, p=place: home.bare(s, LAST, p), repeats, note))  # type: ignore[misc]  # defaults bind now
    return rows
