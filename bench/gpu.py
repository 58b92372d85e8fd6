"""`make bench-gpu`: training on this machine's GPU, printed and stored as JSON; skipped with a reason where there is none.

    python -m bench.gpu [--rows 2000000] [--out reports/bench-gpu.json]

Needs PyTorch built for CUDA (make setup-torch TORCH=auto) and XGBoost with its GPU libraries (requirements/gpu.in).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from bench.frame import Machine, Row
from bench.training import GROUP, STEADY, child, settings, spec
from local.paths import ROOT
from tasks.spec import current
from tasks.training.progress import gpu_use

LARGE: dict[str, Any] = {"hidden": [1024, 1024, 512], "device_batch": 16_384, "window": 1_000_000}
"""A network and a batch that a GPU has something to do with; the example's own would leave it idle."""
WIDE: dict[str, Any] = {**LARGE, "hidden": [8192, 8192, 8192]}
"""One whose weights, gradients and moments weigh 2 GB: what sharding is for."""
PRECISIONS: dict[str, dict[str, Any]] = {
    "fp32": {"precision": "fp32"},
    "bf16": {"precision": "bf16"},
    "bf16, compiled": {"precision": "bf16", "compile": True},
}
LARGEST = 2**24
EPOCH_DAY = 15_706
"""The first of January 2013, in days since the epoch."""


def reason() -> str:
    """Why there is nothing to measure; empty where there is."""
    try:
        import torch
    except ModuleNotFoundError:
        return "PyTorch is not installed; make setup-torch TORCH=auto"
    if not torch.cuda.is_available():
        return f"PyTorch {torch.__version__} finds no GPU"
    return ""


def main() -> int:
    """Measure what this machine can; returns 1 when something failed that should not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_000_000, help="rows to train on")
    parser.add_argument("--out", type=Path, default=ROOT / "reports/bench-gpu.json", help="where the JSON goes")
    arguments = parser.parse_args()
    if why := reason():
        print(f"skipped: {why}.")
        return 0
    import torch

    from bench.__main__ import table

    console, machine = Console(), Machine()
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "features"
        write(folder, arguments.rows)
        rows, left_out = measure(folder, len(gpus))
    console.print(table(f"{', '.join(gpus)}: {arguments.rows:,} rows", rows))
    for line in left_out:
        console.print(f"left out: {line}", highlight=False)
    report = {"gpus": gpus, "machine": machine.describe(), "results": [r.as_dict() for r in rows], "left_out": left_out}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")
    return 0


def measure(folder: Path, gpus: int) -> tuple[list[Row], list[str]]:
    """The table, and what could not be measured with its reason."""
    rows: list[Row] = []
    left_out: list[str] = []

    def attempt(what: str, work: Callable[[], Row]) -> None:
        try:
            rows.append(work())
        except RuntimeError as error:
            left_out.append(f"{what}: {str(error).strip().splitlines()[-1]}")

    for device in ("cpu", "cuda"):
        attempt(f"xgboost on {device}", partial(rate, folder, f"xgboost, {device}", "xgboost", device))
    for name, own in PRECISIONS.items():
        attempt(name, partial(rate, folder, f"mlp, cuda, {name}", "mlp", "cuda", **own))
    attempt("the largest batch", partial(largest, folder))
    if gpus < 2:
        left_out.append("FSDP against DDP memory: needs two GPUs, and there is one")
    else:
        for how in ("ddp", "fsdp"):
            attempt(how, partial(memory, folder, how, gpus))
    return rows, left_out


def rate(folder: Path, name: str, family: str, device: str, **own: Any) -> Row:
    """Rows/s of one training, and how busy the GPU was meanwhile."""
    use = {**settings(family, **STEADY | LARGE | own), "device": device, "threads": 8}
    found, busy = watched(lambda: child(spec(folder, use)))
    note = f"GPU in use {busy:.0f}% of the time, the start of the process included" if device == "cuda" else ""
    return Row(name, "rows/s", (found["rate"],), note, {"cpu_s": found["cpu_s"]})


def largest(folder: Path) -> Row:
    """The largest batch, in powers of two, of which a step fits into one GPU."""
    batch, fits = LARGE["device_batch"], 0
    while batch <= LARGEST:
        own = STEADY | LARGE | {"device_batch": batch, "epochs": 1, "precision": "bf16"}
        try:
            child(spec(folder, {**settings("mlp", **own), "device": "cuda"}))
        except RuntimeError as error:
            if "OutOfMemory" not in str(error):
                raise
            break
        fits, batch = batch, batch * 2
    return Row("mlp, cuda, bf16: largest batch that fits", "rows", (float(fits),))


def memory(folder: Path, how: str, gpus: int) -> Row:
    """What a process holds of its GPU at most."""
    own = STEADY | WIDE | {"processes": gpus, "parallel": how, "epochs": 1}
    found = child(spec(folder, {**settings("mlp", **own), "device": "cuda"}), gpus)
    return Row(f"mlp, {gpus} GPUs, {how}: memory of each", "MiB", (found["gpu_peak_mb"],), "weights of 0.5 GB")


def watched(work: Callable[[], dict[str, float]]) -> tuple[dict[str, float], float]:
    """What ``work`` gives, and the mean use of the GPUs meanwhile in %."""
    over, seen = threading.Event(), list[float]()

    def look() -> None:
        while not over.wait(0.5):
            seen.append(gpu_use().get("gpu_use", 0.0))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        found = work()
    finally:
        over.set()
        watcher.join()
    return found, sum(seen) / max(len(seen), 1)


def write(folder: Path, rows: int) -> None:
    """An interval of rows that look like the example's, as many as asked for, and their labels beside ``folder``."""
    import numpy as np

    model, rng = current(), np.random.default_rng(7)
    types = {"date": pa.date32(), "bigint": pa.int64(), "int": pa.int32(), "string": pa.string()}
    key = {name: types[kind] for name, kind in model.key.items()}
    inputs = {name: pa.string() if name in model.categories else pa.float64() for name in model.features}
    features = pa.schema({**key, "day": pa.int32(), **inputs})
    labels = pa.schema({**key, model.label: pa.int8()})
    names = np.array([f"V{i:02d}" for i in range(40)])
    folders = folder, folder.with_name("labels")
    for each in folders:
        each.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        writers = [
            stack.enter_context(pq.ParquetWriter(each / "2013-01.parquet", schema))
            for each, schema in zip(folders, (features, labels), strict=True)
        ]
        for start in range(0, rows, GROUP):
            n = min(GROUP, rows - start)
            columns = {
                name: names[rng.integers(0, 40, n)] if name in model.categories else rng.normal(size=n)
                for name in model.features
            }
            positive = (columns[model.features[-1]] + rng.normal(size=n) > 1).astype(np.int8)
            columns |= {"day": rng.integers(0, 31, n).astype(np.int32), model.label: positive}
            columns |= {
                name: np.full(n, EPOCH_DAY + start // GROUP, np.int32)
                if kind == pa.date32()
                else np.arange(start, start + n)
                for name, kind in key.items()
                if name not in columns
            }
            for writer in writers:
                writer.write_table(
                    pa.table({name: columns[name] for name in writer.schema.names}, schema=writer.schema)
                )


if __name__ == "__main__":
    sys.exit(main())
