"""Seconds and peak memory of every stage and job, run by its own command in the workspace that has what it reads.

April 2013 is the interval, and the model is trained on January to March.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from bench.frame import Row, timed
from bench.home import LAST, LEARNT, Home

INGEST = ("manifest", "ingest", "validate", "labels", "features", "publish")
TRAIN = ("golden", "train", "resolve", "evaluate", "gate")
NOTES = {
    **dict.fromkeys(("features", "score"), "with the start of its JVM"),
    "monitor": "the registry is a file",
    "evaluate": "candidate and champion",
    "register": "once, with its workspace; the registry is a file",
    "deploy": "once; no online service to reconcile",
}


def measure(home: Home, repeats: int) -> list[Row]:
    """One row for each stage and job."""
    places: dict[str, tuple[str, Path]] = dict.fromkeys(INGEST, (LAST, home.ingested(LAST)))
    places |= dict.fromkeys(TRAIN, (LEARNT, home.trained))
    places |= {job: (LAST, home.workspace(f"{job}-{LAST}")) for job in ("score", "monitor")}
    rows = [
        timed(stage, partial(home.bare, stage, interval, workspace), repeats, NOTES.get(stage, ""))
        for stage, (interval, workspace) in places.items()
    ]
    return rows + [timed(job, partial(home.once().__getitem__, job), 1, NOTES[job]) for job in ("register", "deploy")]
