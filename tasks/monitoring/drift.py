"""Evidently's page of an interval: how every shown column is spread, now and in the reference intervals.

It runs in a process of its own, beside the measuring: importing Evidently takes 6 CPU-s, and a picture that cannot be
drawn must never cost a decision.

    python -m tasks.monitoring.drift --interval 2013-05 --reference 2013-01 2013-02 --rows 5000 --seed 7 --out drift.html
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from tasks import spec
from tasks.core.errors import run_main
from tasks.modelling.tables import read_features
from tasks.storage.artefacts import write_atomic

SECONDS = 300
"""Longest that the page may take."""


def sample(table: pa.Table, rows: int, seed: int) -> pa.Table:
    """At most ``rows`` rows, in their order; the same rows for the same table."""
    if len(table) <= rows:
        return table
    return table.take(np.sort(np.random.default_rng(seed).choice(len(table), rows, replace=False)))


def drawable(current: pa.Table, reference: pa.Table, names: Sequence[str]) -> list[str]:
    """Of ``names``, the columns with values in both tables: Evidently refuses a page for one empty column."""
    return [n for n in names if all(t[n].null_count < len(t) for t in (current, reference))]


def draw(current: pa.Table, reference: pa.Table) -> str:
    """The page as HTML that needs no network (5 MB, nearly all of it Evidently's script)."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    model = spec.current()
    categories, numbers = (
        drawable(current, reference, names) for names in (model.shown_categories, model.shown_numbers)
    )
    definition = DataDefinition(categorical_columns=categories, numerical_columns=numbers)

    def dataset(table: pa.Table) -> Dataset:
        frame = table.select([*categories, *numbers]).to_pandas()
        if model.label in categories:
            frame[model.label] = frame[model.label].map({0.0: model.words.negative, 1.0: model.words.positive})
        return Dataset.from_pandas(frame, data_definition=definition)

    report = Report([DataDriftPreset(columns=[*categories, *numbers])], include_tests=True)
    return str(report.run(dataset(current), dataset(reference)).get_html_str(as_iframe=False))


@contextlib.contextmanager
def drawing(
    interval: str, reference: Sequence[str], rows: int, seed: int, out: Path
) -> Iterator[subprocess.Popen[str]]:
    """Draw the page in another process while the block runs; it ends with the block, finished or not."""
    argv = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "tasks.monitoring.drift",
        "--interval",
        interval,
        "--reference",
        *reference,
    ]
    argv += ["--rows", str(rows), "--seed", str(seed), "--out", str(out)]
    # Arrow and BLAS threads would only fight with the parent's for the same few cores.
    env = {**os.environ, "DO_NOT_TRACK": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def finish(process: subprocess.Popen[str], out: Path) -> tuple[bytes, str]:
    """Wait for the page: its bytes, or none and why there is none."""
    try:
        _, errors = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return b"", f"it was not ready after {SECONDS} s"
    if process.returncode or not out.is_file():
        return b"", (errors.strip().splitlines() or [f"it ended with {process.returncode}"])[-1]
    return out.read_bytes(), ""


def main() -> None:
    """Draw one interval's page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--interval", required=True, help="its key, such as 2013-04")
    parser.add_argument("--reference", required=True, nargs="+", help="intervals to compare with")
    parser.add_argument("--rows", required=True, type=int, help="rows to sample of each side")
    parser.add_argument("--seed", required=True, type=int, help="seed of the sample")
    parser.add_argument("--out", required=True, type=Path, help="HTML file to write")
    asked = parser.parse_args()
    columns = [*spec.current().shown_categories, *spec.current().shown_numbers]
    current, reference = (
        sample(read_features(keys, columns, labels_through=asked.interval), asked.rows, asked.seed)
        for keys in ([asked.interval], asked.reference)
    )
    write_atomic(asked.out, draw(current, reference).encode())


if __name__ == "__main__":
    run_main(main)
