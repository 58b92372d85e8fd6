"""Gradient-boosted trees.

Categories enter as their index in the contract: XGBoost's native categories were 0.001 better in log loss (nine forward
intervals, three seeds), in an ONNX file two and a half times the size that scores at a third of the speed.

Rows and features are sampled, and XGBoost's generator cannot be put back to where it was. So every training, interrupted or
not, goes in segments: at each boundary the trees are written out and read in again, and the next segment has a seed of its own.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import xgboost as xgb

from tasks import spec
from tasks.core.errors import ConfigError
from tasks.modelling.model import INPUT, OUTPUT, Contract, Matrix, verify
from tasks.settings.training_params import TrainParams
from tasks.training.ending import Ended
from tasks.training.family import Fitted, Job
from tasks.training.source import Source

NATIVE = "native.json"
VERSION = str(xgb.__version__)
UNIT = "round"


class Segment(xgb.callback.TrainingCallback):
    """Watches one segment: notes the validation loss of each round, and ends it when waiting has been in vain.

    Args:
        losses: of all rounds so far; added to.
        settings: of the training.
        rows: to learn from.
        job: called at each round.
    """

    def __init__(self, losses: list[float], settings: TrainParams, rows: int, job: Job) -> None:
        super().__init__()
        self._losses, self._settings, self._rows, self._job = losses, settings.xgboost, rows, job

    def after_iteration(self, model: Any, epoch: int, evals_log: dict[str, Any]) -> bool:
        """Whether to stop: patience has run out, or the process was asked to end."""
        del model, epoch
        self._losses.append(float(evals_log["validation"]["logloss"][-1]))
        self._job.progress.step(
            len(self._losses), self._settings.rounds, self._rows, {"validation log loss": self._losses[-1]}
        )
        return self._job.ending.asked or exhausted(self._losses, self._settings.early_stopping_rounds)


def exhausted(losses: list[float], patience: int) -> bool:
    """Whether the last ``patience`` rounds were no better than the best before them."""
    return len(losses) - 1 - int(np.argmin(losses)) >= patience


def fit(source: Source, contract: Contract, settings: TrainParams, job: Job) -> Fitted:
    """Boosted trees, cut back to the round with the lowest log loss on the validation days."""
    require_device(settings.device)
    names = [f"f{i}" for i in range(len(contract.features))]  # the only names that onnxmltools takes
    learn, watch = source.table("train"), source.table("validation")
    fit_rows = _matrix(learn, contract, names, settings)
    stop_rows = _matrix(watch, contract, names, settings, ref=fit_rows)
    booster, losses = _boost(fit_rows, stop_rows, learn.num_rows, settings, job)
    best = int(np.argmin(losses))
    booster = booster[: best + 1]
    booster.set_attr(best_iteration=str(best), best_score=repr(losses[best]))
    return Fitted(
        onnx=to_onnx(booster, len(contract.features)),
        native=bytes(booster.save_raw("json")),
        facts={"rounds": best + 1, "validation_log_loss": losses[best], "gain_share": gain_share(booster, contract)},
    )


def _boost(
    fit_rows: xgb.QuantileDMatrix, stop_rows: xgb.QuantileDMatrix, rows: int, settings: TrainParams, job: Job
) -> tuple[xgb.Booster, list[float]]:
    """All rounds' trees and validation losses, from the newest checkpoint on."""
    own = settings.xgboost
    state = {"trees": None, "losses": []} if (kept := job.checkpoints.latest()) is None else json.loads(kept.content)
    trees: str | None = state["trees"]
    losses: list[float] = state["losses"]
    while len(losses) < own.rounds and not (losses and exhausted(losses, own.early_stopping_rounds)):
        before = list(losses)
        booster = xgb.train(
            own.model_dump(exclude={"rounds", "early_stopping_rounds", "segment_rounds"})
            | {
                "device": settings.device,
                "seed": settings.seed + len(losses) // own.segment_rounds,
                "objective": "binary:logistic",
                "eval_metric": "logloss",
                "tree_method": "hist",
                "nthread": settings.threads,
            },
            fit_rows,
            num_boost_round=min(own.segment_rounds, own.rounds - len(losses)),
            evals=[(stop_rows, "validation")],
            callbacks=[Segment(losses, settings, rows, job)],
            verbose_eval=False,
            xgb_model=_read(trees),
        )
        if job.ending.asked:
            _save(job, trees, before)
            job.checkpoints.flush()
            raise Ended
        trees = booster.save_raw("json").decode()
        if job.checkpoints.due(len(losses)):
            _save(job, trees, list(losses))
    return _read(trees) or xgb.Booster(), losses


def _save(job: Job, trees: str | None, losses: list[float]) -> None:
    job.checkpoints.put(len(losses), ".json", lambda: json.dumps({"trees": trees, "losses": losses}).encode())


def _read(trees: str | None) -> xgb.Booster | None:
    if trees is None:
        return None
    booster = xgb.Booster()
    booster.load_model(bytearray(trees.encode()))
    return booster


def _matrix(
    table: pa.Table,
    contract: Contract,
    names: list[str],
    settings: TrainParams,
    ref: xgb.QuantileDMatrix | None = None,
) -> xgb.QuantileDMatrix:
    return xgb.QuantileDMatrix(
        contract.encode(table),
        table[spec.current().label].to_numpy(),
        feature_names=names,
        nthread=settings.threads,
        ref=ref,
    )


def predict(native: bytes, x: Matrix) -> Matrix:
    """P(positive) float32 [n] of encoded rows [n, features], by XGBoost itself."""
    booster = xgb.Booster()
    booster.load_model(bytearray(native))
    return np.asarray(booster.predict(xgb.DMatrix(x, feature_names=booster.feature_names)), dtype=np.float32)


def gain_share(booster: xgb.Booster, contract: Contract) -> dict[str, float]:
    """Each feature's share of the total gain."""
    gain = {name: float(np.asarray(g)) for name, g in booster.get_score(importance_type="total_gain").items()}
    total = sum(gain.values()) or 1.0
    return {name: round(gain.get(f"f{i}", 0.0) / total, 6) for i, name in enumerate(contract.names)}


def require_device(device: str) -> None:
    """ConfigError when XGBoost cannot train there; it would otherwise fall back to the CPU with only a warning."""
    if device != "cuda":
        return
    if not xgb.build_info().get("USE_CUDA"):
        raise ConfigError(
            "train.device=cuda, but this xgboost is built without CUDA; install requirements/gpu.txt, "
            "or set train.device=cpu in the model's params.yaml."
        )
    if not Path("/dev/nvidiactl").exists():
        raise ConfigError(
            "train.device=cuda, but this machine shows no NVIDIA GPU; set train.device=cpu in the model's params.yaml."
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
