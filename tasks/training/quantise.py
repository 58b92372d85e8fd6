"""The exported model in INT8, and whether it is worth shipping: as good within stated margins, and faster or smaller.

Dynamic quantisation scales a layer's inputs by their range over the whole batch. So a row's score depends on the rows beside
it, which plain models do not do: the gap is measured, and counts.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pyarrow as pa

from tasks import spec
from tasks.modelling import model as models
from tasks.modelling.model import Contract, Matrix, Model
from tasks.settings.training_params import ExportParams
from tasks.storage.artefacts import sha256

if TYPE_CHECKING:
    from tasks.modelling.stats import Comparison

PRODUCTS = frozenset({"MatMul", "Gemm"})
"""Operators that are quantised; trees have none."""
SINGLES = 1000
"""Rows that are scored one at a time, to see what the rows beside them change."""
CONFIDENCE, RESAMPLES = 0.95, 2000
PLAIN, INT8 = "plain", "int8"


@dataclass(frozen=True)
class Export:
    """What ships."""

    onnx: bytes
    plain: bytes | None
    """The model before it was quantised, where INT8 ships: what is compared with the family's own format."""
    facts: dict[str, Any]
    """What was asked for, what ships and why, in plain JSON without clock times; empty where nothing was asked for."""
    readings: dict[str, Any]
    """Of the clock, by batch size."""


def export(
    plain: bytes, contract: Contract, watch: Callable[[], pa.Table], settings: ExportParams, seed: int
) -> Export:
    """``plain`` or its INT8 candidate, as the settings say.

    Args:
        plain: ONNX file.
        contract: of its rows; the digest in it does not matter.
        watch: the validation days' rows, on which the two are compared.
        settings: how, and the margins.
        seed: of the day bootstrap.
    """
    if settings.quantize == "none":
        return Export(plain, None, {}, {})
    asked = {"asked": settings.quantize}
    if not PRODUCTS & operators(plain):
        return Export(plain, None, asked | {"shipped": PLAIN, "reasons": ["there is nothing to quantise"]}, {})
    small = quantise(plain, len(contract.features))
    if settings.quantize == "int8":
        return Export(small, plain, asked | {"shipped": INT8, "reasons": []}, {})
    found, readings = measure(plain, small, contract, watch(), settings, seed)
    reasons = [*too_different(found, settings), *not_worth_it(found, readings, settings)]
    facts = asked | {"shipped": PLAIN if reasons else INT8, "reasons": reasons} | found
    return Export(plain, None, facts, readings) if reasons else Export(small, plain, facts, readings)


def quantise(plain: bytes, width: int) -> bytes:
    """``plain`` with its matrix multiplications in INT8, with equal bytes for equal models."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it asks for a preparation that changes nothing in graphs without shapes to infer
    try:
        with tempfile.TemporaryDirectory(prefix="airloop-export-") as folder:
            target = Path(folder) / "int8.onnx"
            # Embeddings stay: their rows are looked up, not multiplied.
            quantize_dynamic(
                onnx.load_from_string(plain), target, op_types_to_quantize=["MatMul"], weight_type=QuantType.QInt8
            )
            proto = onnx.load(target)
    finally:
        root.setLevel(level)
    proto.producer_name, proto.producer_version, proto.domain = "airloop", "", ""
    del proto.metadata_props[:]
    content: bytes = proto.SerializeToString(deterministic=True)
    models.verify(content, features=width)
    return content


def operators(content: bytes) -> set[str]:
    """What the nodes of the ONNX file do."""
    return {str(node.op_type) for node in onnx.load_from_string(content).graph.node}


def measure(
    plain: bytes, small: bytes, contract: Contract, watch: pa.Table, settings: ExportParams, seed: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the two files say of the same rows, and the clock's readings."""
    from tasks.modelling.stats import compare  # it costs half a second, which a plain export needs not

    before, after = (_load(content, contract) for content in (plain, small))
    x = contract.encode(watch)
    batch = max(settings.batch_sizes)
    p, q = in_batches(before, x, batch), in_batches(after, x, batch)
    found = compare(
        np.asarray(watch["day"]),
        watch[spec.current().label].to_numpy(),
        q,
        p,
        resamples=RESAMPLES,
        confidence=CONFIDENCE,
        seed=seed,
    )
    facts = {
        "bytes": {PLAIN: len(plain), INT8: len(small)},
        "quality": _quality(found),
        "gap": gap(p, q),
        "batch_gap": batch_gap(after, x, q),
    }
    readings = {str(n): paired(before, after, _rows(x, n), settings.pairs) for n in settings.batch_sizes}
    return facts, readings


def _load(content: bytes, contract: Contract) -> Model:
    signed = contract.model_copy(update={"onnx_sha256": sha256(content)})
    return models.load(content, signed.to_bytes(), sha256(content))


def _quality(found: Comparison) -> dict[str, Any]:
    def interval(value: Any) -> dict[str, float]:
        return {"mean": value.mean, "lo": value.lo, "hi": value.hi}

    return {"days": found.days, "d_log_loss": interval(found.d_log_loss), "d_auc": interval(found.d_auc)}


def in_batches(model: Model, x: Matrix, rows: int) -> Matrix:
    """P(positive) float32 [n], ``rows`` at a time."""
    return np.concatenate([model.predict(x[start : start + rows]) for start in range(0, len(x), rows)])


def gap(one: Matrix, other: Matrix) -> float:
    """Largest absolute difference of two models' scores."""
    return float(np.abs(one.astype(np.float64) - other).max(initial=0.0))


def batch_gap(model: Model, x: Matrix, together: Matrix) -> float:
    """Largest absolute difference that scoring rows one at a time makes to ``together``; of evenly spread rows."""
    picked = np.unique(np.linspace(0, max(len(x) - 1, 0), min(SINGLES, len(x))).astype(np.int64))
    return gap(in_batches(model, x[picked], 1), together[picked]) if len(picked) else 0.0


def _rows(x: Matrix, count: int) -> Matrix:
    return np.resize(x, (count, x.shape[1]))


def paired(before: Model, after: Model, x: Matrix, pairs: int) -> dict[str, float]:
    """Median microseconds of both, and the ratio after / before of pairs timed one right after the other.

    ``lo`` and ``hi`` hold the median ratio with 95% confidence, whatever its distribution: order statistics of the pairs.
    """
    from scipy.stats import binom

    for _ in range(3):
        before.predict(x), after.predict(x)
    times = np.array([_pair(before, after, x, number % 2 == 0) for number in range(pairs)])
    ratios = np.sort(times[:, 1] / times[:, 0])
    low = max(int(binom.ppf((1 - CONFIDENCE) / 2, pairs, 0.5)) - 1, 0)
    return {
        "plain_us": round(float(np.median(times[:, 0])) * 1e6, 1),
        "int8_us": round(float(np.median(times[:, 1])) * 1e6, 1),
        "ratio": float(np.median(ratios)),
        "lo": float(ratios[low]),
        "hi": float(ratios[pairs - 1 - low]),
    }


def _pair(before: Model, after: Model, x: Matrix, plain_first: bool) -> tuple[float, float]:
    one, other = (before, after) if plain_first else (after, before)
    first, second = _seconds(one, x), _seconds(other, x)
    return (first, second) if plain_first else (second, first)


def _seconds(model: Model, x: Matrix) -> float:
    started = time.perf_counter()
    model.predict(x)
    return time.perf_counter() - started


def too_different(found: Mapping[str, Any], settings: ExportParams) -> Iterator[str]:
    """Reasons against the candidate that lie in what it says."""
    quality = found["quality"]
    level = f"{CONFIDENCE:.0%} over {quality['days']} days"
    for name, value, limit in (
        ("log loss may rise by", quality["d_log_loss"]["hi"], settings.max_log_loss_rise),
        ("AUC may fall by", -quality["d_auc"]["lo"], settings.max_auc_fall),
    ):
        if not value <= limit:
            yield f"{name} {value:.5f} ({level}), allowed {limit:g}"
    if not found["gap"] <= settings.max_gap:
        yield f"a score differs by {found['gap']:.2g} from the plain model's, allowed {settings.max_gap:g}"
    if not found["batch_gap"] <= settings.max_batch_gap:
        yield (
            f"a score changes by {found['batch_gap']:.2g} with the rows beside it, allowed {settings.max_batch_gap:g}: "
            "batch and online would not agree"
        )


def not_worth_it(
    found: Mapping[str, Any], readings: Mapping[str, Mapping[str, float]], settings: ExportParams
) -> Iterator[str]:
    """Reasons that lie in what it saves; without the clock's numbers, which differ from run to run."""
    slower = [size for size, timed in readings.items() if timed["lo"] > 1]
    faster = [size for size, timed in readings.items() if timed["hi"] < 1 - settings.min_saving]
    smaller = found["bytes"][INT8] <= (1 - settings.min_saving) * found["bytes"][PLAIN]
    if slower:
        yield f"it is measurably slower at batch size {_and(slower)} (export.json has the readings)"
    if not faster and not smaller:
        yield f"it is neither {settings.min_saving:.0%} faster at any of {_and(list(readings))} rows nor that much smaller"


def _and(sizes: Sequence[str]) -> str:
    return ", ".join(sizes)
