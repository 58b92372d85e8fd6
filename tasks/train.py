"""train: a model of the family that params.yaml names, on every month of the window, less the days that are kept for judging."""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path

from tasks.common import params
from tasks.common.artefacts import Store, sha256, to_json, write_atomic
from tasks.common.environment import store
from tasks.common.errors import run_main
from tasks.common.params import Params, TrainParams
from tasks.common.tables import FEATURES as FOLDER
from tasks.training.checkpoints import Checkpoints
from tasks.training.ending import Ending
from tasks.training.family import Family, Fitted, Job, named
from tasks.training.progress import Progress
from tasks.training.source import Source

CODE = Path(__file__).parent


@dataclass(frozen=True)
class Trained:
    """What training leaves behind, as bytes of its files."""

    onnx: bytes
    contract: bytes
    native: bytes
    native_name: str
    metrics: bytes


def source(settings: Params, folder: Path = FOLDER) -> Source:
    """The rows that the settings let a training see."""
    return Source(folder, tuple(sorted(settings.months)), settings.holdout, settings.train.validation)


def train(rows: Source, settings: TrainParams, keep: Store | None = None) -> Trained:
    """Train on ``rows``, from the newest checkpoint in ``keep`` on; the same rows and settings give the same bytes."""
    facts = rows.facts
    contract = rows.contract()
    fitted = fit(settings.family, rows, settings, keep)
    content = contract.model_copy(update={"onnx_sha256": sha256(fitted.onnx)})
    return Trained(
        onnx=fitted.onnx,
        contract=content.to_bytes(),
        native=fitted.native,
        native_name=named(settings.family).NATIVE,
        metrics=to_json({"family": settings.family} | facts | fitted.facts),
    )


def fit(name: str, rows: Source, settings: TrainParams, keep: Store | None) -> Fitted:
    """Train one family; its checkpoints are gone when it is done."""
    family = named(name)
    checkpoints = Checkpoints(keep, identity(name, family, rows, settings), settings.checkpoint)
    with Ending() as ending:
        fitted = family.fit(rows, rows.contract(), settings, Job(checkpoints, Progress(name), ending))
    checkpoints.clear()
    return fitted


def identity(name: str, family: Family, rows: Source, settings: TrainParams) -> str:
    """Digest of all that a training's bytes depend on: two trainings with the same may go on from each other's checkpoints."""
    known = settings.model_dump(mode="json", exclude={"family", "checkpoint"})
    found = hashlib.sha256(to_json([name, family.VERSION, rows.digest, known]))
    for path in sorted((CODE / "training").rglob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()[:32]


def write(trained: Trained, folder: Path = Path("model")) -> None:
    """Write the four files of ``folder``."""
    for name, content in (
        ("model.onnx", trained.onnx),
        ("contract.json", trained.contract),
        (trained.native_name, trained.native),
        ("metrics.json", trained.metrics),
    ):
        write_atomic(folder / name, content)


def main() -> None:
    """Train the model of params.months."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    settings = params.load()
    started = time.monotonic()
    trained = train(source(settings), settings.train, store())
    write(trained)
    facts = json.loads(trained.metrics)
    print(
        f"train: {facts['family']} on {facts['rows']['train']} of {facts['rows']['read']} rows ({facts['months'][0]} to "
        f"{facts['data_through']}), validation log loss {facts['validation_log_loss']:.5f}, "
        f"{len(trained.onnx) // 1000} kB of ONNX, {time.monotonic() - started:.1f} s"
    )


if __name__ == "__main__":
    run_main(main)
