"""A small feed taken through every stage once, with the state before each step kept: where faults are tried."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from models.flights import landing
from tasks.core.urls import url_of
from tasks.settings.environment import CODE
from tasks.storage.artefacts import Store

CLOCK = ("latency.json", "export.json")
"""Outputs that hold seconds, which differ from run to run."""
INTERVALS = ("2013-01", "2013-02")
DAYS = {"2013-01": 12, "2013-02": 6}
"""Days of each interval that land: enough rows for every stage, few enough for hundreds of tries."""
TRAINING = "train"
"""Key of the run that trains and judges, by settings of its own and so without registering."""
SETTINGS = (
    "train.xgboost.rounds=40", "train.xgboost.segment_rounds=10", "train.checkpoint.steps=10", "golden.rows=300", "golden.intervals=[2013-01, 2013-02]",
    "golden.min_rows_per_value=1", "evaluate.latency_rows=64",
)  # fmt: skip


@dataclass(frozen=True)
class Step:
    """One command of the protocol."""

    action: str
    names: tuple[str, ...]
    run: str
    interval: str
    begins: bool = False

    @property
    def title(self) -> str:
        """For tables."""
        return self.names[-1]

    def argv(self) -> list[str]:
        """Its command line."""
        argv = [sys.executable, "-m", "tasks.running", self.action, *self.names, "--run", self.run]
        argv += ["--first", self.interval, "--last", self.interval]
        argv += ["--begins"] if self.begins else []
        if self.run != TRAINING:
            return argv
        return [*argv, "--exploratory", *(part for setting in SETTINGS for part in ("--set", setting))]


def steps() -> list[Step]:
    """Both intervals land, then a model is trained and judged."""
    found = []
    for interval in INTERVALS:
        run = f"ingest-{interval}"
        found += [Step("stage", ("manifest", "ingest"), run, interval, begins=True)]
        found += [Step("stage", names, run, interval) for names in (("validate",), ("labels", "features"))]
        found += [Step("job", ("publish",), run, interval)]
    stages = ("golden", "train", "resolve", "evaluate", "gate")
    return found + [Step("stage", (name,), TRAINING, INTERVALS[-1], begins=name == "golden") for name in stages]


@dataclass
class Place:
    """A home, a store and a remote."""

    folder: Path
    landing: Path
    home: Path = field(init=False)

    def __post_init__(self) -> None:
        self.home = self.folder / "home"

    @property
    def store(self) -> Store:
        """Its store."""
        return Store(url_of(self.folder / "store")).part("flights")

    def environment(self, **more: str) -> dict[str, str]:
        """Variables of a process that works here."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRLOOP_", "AIRFLOW"))}
        scratch = self.folder / "tmp"  # what is killed leaves its temporary files
        scratch.mkdir(parents=True, exist_ok=True)
        return {
            **kept,
            "PYTHONPATH": str(CODE),
            "TMPDIR": str(scratch),
            "AIRLOOP_CODE": str(CODE),
            "AIRLOOP_HOME": str(self.home),
            "AIRLOOP_STORE": url_of(self.folder / "store"),
            "AIRLOOP_DVC_REMOTE": str(self.folder / "remote"),
            "AIRLOOP_LANDING": url_of(self.landing),
            "MLFLOW_TRACKING_URI": "",
            **more,
        }

    def lock(self, run: str) -> dict[str, Any]:
        """dvc.lock of ``run`` as the store has it."""
        return dict(yaml.safe_load(self.store.read(f"runs/{run}/dvc.lock"))["stages"])

    def result(self, step: Step) -> dict[str, Any]:
        """What ``step`` left: digests of its stages' outputs, or the record that it published."""
        if step.action == "job":
            record = dict(self.store.read_json(f"landed/{step.interval}.json"))
            return {name: record[name] for name in ("features", "manifest", "state", "counts")}
        lock = self.lock(step.run)
        entries = {name: lock.get(name) or lock.get(f"{name}@{step.interval}") for name in step.names}
        return {
            name: [(out["path"], out["md5"]) for out in entry["outs"] if out["path"] not in CLOCK]
            for name, entry in entries.items()
            if entry
        }


class World:
    """The state before each step, and what each step leaves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.landing = folder / "landing"
        self.steps = steps()
        self.expected: list[dict[str, Any]] = []
        _land(self.landing)
        place = Place(folder / "first", self.landing)
        for index, step in enumerate(self.steps):
            self._keep(place, index)
            done = subprocess.run(
                step.argv(), cwd=CODE, env=place.environment(), capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{step}: {done.stdout}{done.stderr}"
            self.expected.append(place.result(step))

    def _keep(self, place: Place, index: int) -> None:
        for name in ("store", "remote"):
            if (source := place.folder / name).exists():
                shutil.copytree(source, self.folder / f"before-{index}" / name)

    def before(self, index: int, folder: Path) -> Place:
        """A place of its own in the state before step ``index``, on a machine that has seen nothing."""
        kept = self.folder / f"before-{index}"
        folder.mkdir(parents=True)
        if kept.exists():
            shutil.copytree(kept, folder, dirs_exist_ok=True)
        return Place(folder, self.landing)


def _land(zone: Path) -> None:
    tables = landing.read_tables(landing.source(), INTERVALS)
    header, rows = tables["flights"]
    interval, day = header.index("month"), header.index("day")
    few = [row for row in rows if int(row[day]) <= DAYS[f"2013-{int(row[interval]):02d}"]]
    for name in INTERVALS:
        landing.land(name, {**tables, "flights": (header, few)}, Store(url_of(zone)).part("flights"))
