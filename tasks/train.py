"""train: gradient-boosted trees on every month of the window, less the days that are kept for judging.

Categories enter as their index in the contract: XGBoost's native categories were 0.001 better in log loss (nine forward
months, three seeds), in an ONNX file two and a half times the size that scores at a third of the speed.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.compute as pc
import xgboost as xgb

from tasks.common import params
from tasks.common.artefacts import sha256, to_json, write_atomic
from tasks.common.errors import ConfigError, DataError, run_main
from tasks.common.model import INPUT, OUTPUT, Contract, Feature, verify
from tasks.common.params import DayRule, TrainParams
from tasks.common.tables import labelled, on_days, read_features
from tasks.flights.definitions import CATEGORIES, FEATURES, LABEL

UNKNOWN = "0" * 64
"""Stands for the digest of an ONNX file that is not made yet."""


@dataclass(frozen=True)
class Trained:
    """What training leaves behind, as bytes of its files."""

    onnx: bytes
    contract: bytes
    native: bytes
    metrics: bytes


class Progress(xgb.callback.TrainingCallback):
    """One line every few seconds, so that a log shows a long training to be alive."""

    def __init__(self, rounds: int, seconds: float = 3.0) -> None:
        super().__init__()
        self._rounds, self._seconds = rounds, seconds
        self._last = time.monotonic()

    def after_iteration(self, model: Any, epoch: int, evals_log: dict[str, Any]) -> bool:
        """Print, and never stop training."""
        del model
        if time.monotonic() - self._last >= self._seconds:
            self._last = time.monotonic()
            print(
                f"train: round {epoch + 1} of at most {self._rounds}, "
                f"validation log loss {evals_log['validation']['logloss'][-1]:.5f}",
                flush=True,
            )
        return False


def split(table: pa.Table, holdout: DayRule, validation: DayRule) -> tuple[pa.Table, pa.Table]:
    """Rows to train and to stop on, labelled and not held out; DataError when either has not both outcomes."""
    known = labelled(table, LABEL)
    usable = known.filter(pa.array(~on_days(known["day"], holdout)))
    stop = on_days(usable["day"], validation)
    parts = usable.filter(pa.array(~stop)), usable.filter(pa.array(stop))
    for part, name in zip(parts, ("training", "train.validation"), strict=True):
        if len(pc.unique(part[LABEL])) != 2:
            raise DataError(
                f"The {name} days hold {part.num_rows} labelled rows and not both outcomes; "
                "widen the window (months) or change train.validation in params.yaml."
            )
    return parts


def learn_contract(rows: pa.Table) -> Contract:
    """The feature contract: the categories are those of the training ``rows``; its ONNX digest is still unknown."""
    features = tuple(
        Feature(name=name, kind="category", categories=tuple(sorted(v for v in pc.unique(rows[name]).to_pylist() if v)))
        if name in CATEGORIES
        else Feature(name=name, kind="number")
        for name in FEATURES
    )
    return Contract(features=features, label=LABEL, onnx_sha256=UNKNOWN)


def boost(train: pa.Table, stop: pa.Table, contract: Contract, settings: TrainParams) -> xgb.Booster:
    """Boosted trees, cut back to the round with the lowest log loss on the rows to ``stop`` on."""
    require_device(settings.device)
    names = [f"f{i}" for i in range(len(contract.features))]  # the only names that onnxmltools takes
    fit = xgb.QuantileDMatrix(
        contract.encode(train), train[LABEL].to_numpy(), feature_names=names, nthread=settings.threads
    )
    watch = xgb.QuantileDMatrix(
        contract.encode(stop), stop[LABEL].to_numpy(), feature_names=names, nthread=settings.threads, ref=fit
    )
    kept = ("device", "seed", "max_depth", "eta", "min_child_weight", "reg_lambda", "subsample", "colsample_bytree")
    booster = xgb.train(
        settings.model_dump(include=set(kept))
        | {
            "objective": "binary:logistic",
            "eval_metric": "logloss",
            "tree_method": "hist",
            "nthread": settings.threads,
        },
        fit,
        num_boost_round=settings.rounds,
        evals=[(watch, "validation")],
        early_stopping_rounds=settings.early_stopping_rounds,
        callbacks=[Progress(settings.rounds)],
        verbose_eval=False,
    )
    best: xgb.Booster = booster[: booster.best_iteration + 1]
    best.set_attr(best_iteration=str(booster.best_iteration), best_score=repr(booster.best_score))
    return best


def require_device(device: str) -> None:
    """ConfigError when XGBoost cannot train there; it would otherwise fall back to the CPU with only a warning."""
    if device != "cuda":
        return
    if not xgb.build_info().get("USE_CUDA"):
        raise ConfigError(
            "train.device=cuda, but this xgboost is built without CUDA; install requirements/gpu.txt, "
            "or set train.device=cpu in params.yaml."
        )
    if not Path("/dev/nvidiactl").exists():
        raise ConfigError(
            "train.device=cuda, but this machine shows no NVIDIA GPU; set train.device=cpu in params.yaml."
        )


def to_onnx(booster: xgb.Booster, width: int) -> bytes:
    """``booster`` as ONNX with equal bytes for equal trees; only the probabilities are an output."""
    from onnxmltools.convert import convert_xgboost
    from onnxmltools.convert.common.data_types import FloatTensorType

    proto = convert_xgboost(booster, name="airloop", initial_types=[(INPUT, FloatTensorType([None, width]))])
    proto.graph.name, proto.graph.doc_string, proto.doc_string = "airloop", "", ""
    proto.producer_name, proto.producer_version, proto.domain = "airloop", "", ""
    del proto.metadata_props[:]
    del proto.graph.output[:]
    proto.graph.output.append(onnx.helper.make_tensor_value_info(OUTPUT, onnx.TensorProto.FLOAT, [None, 2]))
    for number, node in enumerate(proto.graph.node):
        node.name = f"node{number}"
    content: bytes = proto.SerializeToString(deterministic=True)
    verify(content, features=width)
    return content


def train(table: pa.Table, settings: TrainParams, holdout: DayRule) -> Trained:
    """Train on the feature rows of ``table``; the same rows and settings give the same bytes."""
    fit, stop = split(table, holdout, settings.validation)
    contract = learn_contract(fit)
    booster = boost(fit, stop, contract, settings)
    content = to_onnx(booster, len(contract.features))
    contract = contract.model_copy(update={"onnx_sha256": sha256(content)})
    return Trained(
        onnx=content,
        contract=contract.to_bytes(),
        native=bytes(booster.save_raw("json")),
        metrics=to_json(summary(booster, table, fit, stop)),
    )


def summary(booster: xgb.Booster, table: pa.Table, fit: pa.Table, stop: pa.Table) -> dict[str, Any]:
    """metrics.json: what was trained on what; no clock in it, so that equal trainings are equal files."""
    gain = booster.get_score(importance_type="total_gain")
    total = sum(float(np.asarray(g)) for g in gain.values()) or 1.0
    months = sorted({str(d)[:7] for d in pc.unique(table["date"]).to_pylist()})
    return {
        "months": months,
        "data_through": months[-1],
        "rounds": booster.num_boosted_rounds(),
        "validation_log_loss": float(booster.attr("best_score") or "nan"),
        "rows": {"read": table.num_rows, "train": fit.num_rows, "validation": stop.num_rows},
        "days": {"train": len(pc.unique(fit["day"])), "validation": len(pc.unique(stop["day"]))},
        "positive_share": float(pc.mean(fit[LABEL]).as_py()),
        "gain_share": {
            name: round(float(np.asarray(gain.get(f"f{i}", 0.0))) / total, 6) for i, name in enumerate(FEATURES)
        },
    }


def write(trained: Trained, folder: Path = Path("model")) -> None:
    """Write the four files of ``folder``."""
    for name, content in (
        ("model.onnx", trained.onnx),
        ("contract.json", trained.contract),
        ("native.json", trained.native),
        ("metrics.json", trained.metrics),
    ):
        write_atomic(folder / name, content)


def main() -> None:
    """Train the model of params.months."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    settings = params.load()
    started = time.monotonic()
    table = read_features(settings.months, ["date", "day", LABEL, *FEATURES])
    trained = train(table, settings.train, settings.holdout)
    write(trained)
    facts = json.loads(trained.metrics)
    print(
        f"train: {facts['rows']['train']} of {facts['rows']['read']} rows ({facts['months'][0]} to "
        f"{facts['data_through']}), {facts['rounds']} rounds, validation log loss {facts['validation_log_loss']:.5f}, "
        f"{len(trained.onnx) // 1000} kB of ONNX, {time.monotonic() - started:.1f} s"
    )


if __name__ == "__main__":
    run_main(main)
