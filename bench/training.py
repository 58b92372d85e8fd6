"""Training: rows/s and CPU-seconds of both families, DDP over cores, and memory against the size of the data.

python -m bench.training one SPEC     train once as SPEC (JSON) says; torchrun may have started several of these
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bench.frame import Row, run
from bench.home import INTERVALS, Home
from tasks.settings import settings_files
from tasks.settings.environment import CODE, environment
from tasks.settings.training_params import TrainParams
from tasks.settings.value_types import DayRule
from tasks.training.checkpoints import Checkpoints
from tasks.training.ending import Ending
from tasks.training.families import named
from tasks.training.family import Job
from tasks.training.progress import Progress
from tasks.training.source import Source

GROUP = 50_000
"""Rows of a row group of the large files."""
STEADY = {"epochs": 3, "early_stopping_epochs": 3, "device_batch": 1024}
"""Every process does the same whatever it learns, so that the clock alone differs."""
SIZES = (250_000, 1_000_000, 4_000_000)


class Clock(Progress):
    """Notes when steps were done, and how many rows they took; XGBoost's take all rows each."""

    def __init__(self) -> None:
        super().__init__("bench")
        self.steps: list[tuple[float, int]] = []

    def step(self, step: int, of: int, samples: int, losses: Mapping[str, float], epoch: float | None = None) -> None:
        """Note it."""
        del step, of, losses, epoch
        self.steps.append((time.perf_counter(), samples))

    @property
    def rate(self) -> float:
        """Rows/s from the end of the first step to that of the last, validation included."""
        return sum(rows for _, rows in self.steps[1:]) / (self.steps[-1][0] - self.steps[0][0])


def measure(home: Home, repeats: int) -> list[Row]:
    """All rows of the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        real = folder / "real/features"
        for interval in INTERVALS:
            link(home.ingested(interval) / "data", folder / "real", interval)
        return [
            *(_family(real, family, repeats) for family in ("xgboost", "mlp")),
            *_scaling(real, repeats),
            *(_memory(real, folder, rows) for rows in SIZES),
        ]


def link(data: Path, target: Path, interval: str) -> None:
    """Put an interval's features and labels into a folder of a workspace's kind, as links."""
    for name in ("features", "labels"):
        (target / name).mkdir(parents=True, exist_ok=True)
        (target / name / f"{interval}.parquet").symlink_to(data / name / f"{interval}.parquet")


def settings(family: str, **mlp: Any) -> dict[str, Any]:
    """The stage's own, on one thread, with these of the family mlp."""
    raw = settings_files.read(CODE, environment().model)
    return {**raw["train"], "family": family, "threads": 1, "mlp": raw["train"]["mlp"] | mlp, "holdout": raw["holdout"]}


def spec(folder: Path, use: dict[str, Any], **more: Any) -> str:
    """The task of ``one``: the files of ``folder``."""
    intervals = sorted(path.stem for path in folder.glob("*.parquet"))
    return json.dumps({"folder": str(folder), "intervals": intervals, "settings": use, **more})


def child(task: str, processes: int = 1, env: Mapping[str, str] | None = None) -> dict[str, float]:
    """What ``one`` says, in processes of its own."""
    agent = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)] if processes > 1 else []
    usage = run([sys.executable, *agent, "-m", "bench.training", "one", task], CODE, env)
    said: dict[str, float] = json.loads(next(line for line in usage.output.splitlines() if line.startswith("{")))
    return {"peak_mb": usage.peak_mb, **said}


def _family(folder: Path, family: str, repeats: int) -> Row:
    found = [child(spec(folder, settings(family))) for _ in range(repeats)]
    best = max(found, key=lambda one: one["rate"])
    note = "one thread; rows that all rounds or epochs went over; cpu_s is of the whole fit"
    more = {name: best[name] for name in ("cpu_s", "peak_mb", "steps")}
    return Row(family, "rows/s", tuple(one["rate"] for one in found), note, more)


def _scaling(folder: Path, repeats: int) -> list[Row]:
    """The same number of rows in each process, each on a core of its own."""
    rows = []
    for processes in (1, 2):
        if processes > (os.cpu_count() or 1):
            continue
        task = spec(folder, settings("mlp", processes=processes, **STEADY), pin=True)
        rates = tuple(child(task, processes, {"OMP_NUM_THREADS": "1"})["rate"] for _ in range(repeats))
        rows.append(
            Row(f"mlp, {processes} gloo process(es), a core each", "rows/s", rates, "1,024 rows a process and step")
        )
    return rows


def _memory(real: Path, scratch: Path, rows: int) -> Row:
    """The real rows over and over in one file."""
    folder, labels = scratch / str(rows) / "features", scratch / str(rows) / "labels"
    folder.mkdir(parents=True)
    labels.mkdir()
    first = next(real.iterdir())
    table = pq.read_table(first)
    (labels / "2013-01.parquet").symlink_to(real.with_name("labels") / first.name)
    with pq.ParquetWriter(folder / "2013-01.parquet", table.schema) as writer:
        written = 0
        while written < rows:
            part = table.slice(0, min(len(table), rows - written))
            writer.write_table(part.combine_chunks(), GROUP)
            written += len(part)
    task = spec(folder, settings("mlp", **STEADY | {"epochs": 1, "window": 2 * GROUP}))
    note = "of which the libraries alone are most; one epoch, a window of 100,000 rows"
    size = rows * _width(table.schema) / 2**20
    return Row(f"mlp, {rows:,} rows, {size:,.0f} MiB as a table", "MiB at most", (child(task)["own_peak_mb"],), note)


def _width(schema: pa.Schema) -> int:
    return sum(8 if pa.types.is_floating(field.type) or pa.types.is_int64(field.type) else 4 for field in schema)


def one(task: dict[str, Any]) -> dict[str, float]:
    """Train once, by this process or as one of several; figures, which the first process of several prints."""
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    if task.get("pin"):
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[rank]})
    raw = dict(task["settings"])
    holdout = DayRule.model_validate(raw.pop("holdout"))
    use = TrainParams.model_validate(raw)
    source = Source(Path(task["folder"]), tuple(task["intervals"]), holdout, use.validation)
    clock = Clock()
    job = Job(Checkpoints(None, "", use.checkpoint), clock, Ending())
    family, contract = named(use.family), source.contract()
    begun, before = time.perf_counter(), time.process_time()
    if "RANK" in os.environ:
        from tasks.training.neural.group import joined
        from tasks.training.neural.learn import learn

        with joined(use.device) as group:
            learn(source, contract, use, job, group)
    else:
        family.fit(source, contract, use, job)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    figures = {"seconds": time.perf_counter() - begun, "cpu_s": time.process_time() - before, "own_peak_mb": peak}
    if use.device == "cuda" and use.family == "mlp":
        import torch

        figures["gpu_peak_mb"] = torch.cuda.max_memory_allocated() / 2**20
    return figures if not clock.steps else {**figures, "rate": clock.rate, "steps": float(len(clock.steps))}


if __name__ == "__main__":
    found = one(json.loads(sys.argv[2]))
    if os.environ.get("RANK", "0") == "0":
        print(json.dumps(found))
