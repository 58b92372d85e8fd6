"""How fast a model answers, measured where it is asked."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.modelling.model import Model

SINGLES = 300
"""Single rows timed, after a tenth as many to warm up."""


def measure(model: Model, table: pa.Table, rows: int) -> dict[str, Any]:
    """Microseconds of one row (p50, p99; encoded from a mapping) and rows a second of one batch, on one thread."""
    batch = table.slice(0, rows)
    wanted = batch.slice(0, SINGLES).select(list(model.contract.names)).to_pylist()
    for row in wanted[: SINGLES // 10]:
        model.predict(model.contract.encode_rows([row]))
    single = [_seconds(lambda row=row: model.predict(model.contract.encode_rows([row]))) for row in wanted]
    best = min(_seconds(lambda: model.score(batch)) for _ in range(3))
    return {
        "single_row_us": {
            "p50": round(float(np.quantile(single, 0.5)) * 1e6, 1),
            "p99": round(float(np.quantile(single, 0.99)) * 1e6, 1),
            "rows": len(single),
        },
        "batch": {"rows": batch.num_rows, "rows_per_second": round(batch.num_rows / best)},
    }


def _seconds(call: Any) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
