"""train: a model of the family that `train.family` names, on every interval of the window, less the days that are kept for judging."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks import spec, spec_file
from tasks.core.errors import run_main
from tasks.modelling.tables import FEATURES as FOLDER
from tasks.settings import params
from tasks.settings.environment import environment, store
from tasks.settings.params import Params
from tasks.settings.training_params import ExportParams, TrainParams
from tasks.storage.artefacts import Store, sha256, to_json, write_atomic
from tasks.training import best, quantise
from tasks.training.checkpoints import Checkpoints
from tasks.training.ending import Ended, Ending
from tasks.training.families import named
from tasks.training.family import Fitted, Job
from tasks.training.progress import Progress
from tasks.training.quantise import Export
from tasks.training.source import Source
from tasks.training.tracking import Tracker

HERE = Path(__file__).parent
SHAPING_CODE = (
    HERE / "train.py",
    HERE / "training",
    HERE / "modelling/label_view.py",
    HERE / "modelling/model.py",
    HERE / "modelling/stats.py",
    HERE / "modelling/tables.py",
)
"""Files and folders that a training's bytes depend on; also the deps of the stage in dvc.yaml."""
SHAPING_SECTIONS = ("entity", "features", "target")
"""Sections of the model's declaration that they depend on; dvc.yaml names them too."""

PLAIN = "plain.onnx"
"""Beside a quantised model, what it was before."""


@dataclass(frozen=True)
class Trained:
    """What training leaves behind, as bytes of its files."""

    onnx: bytes
    contract: bytes
    native: bytes
    native_name: str
    metrics: bytes
    plain: bytes | None = None
    """The ONNX file before it was quantised, where INT8 ships."""
    readings: bytes = b"{}"
    """Of the clock, as JSON."""


def source(settings: Params, folder: Path = FOLDER) -> Source:
    """The rows that the settings let a training see."""
    return Source(folder, tuple(sorted(settings.intervals)), settings.holdout, settings.train.validation)


def train(
    rows: Source,
    settings: TrainParams,
    keep: Store | None = None,
    mlflow: str = "",
    export: ExportParams | None = None,
) -> Trained:
    """Train on ``rows``, from the newest checkpoint in ``keep`` on; the same rows and settings give the same bytes.

    Args:
        rows: to learn from, and to stop on.
        settings: of the training.
        keep: where checkpoints are kept until ``forget``.
        mlflow: URI of the tracking server that gets the progress.
        export: whether to try a quantised model; None does not.
    """
    for name in families(settings):
        named(name)  # says what is missing before anything is trained
    facts = rows.facts
    contract = rows.contract()
    fitted = {name: fit(name, rows, settings, keep, mlflow) for name in families(settings)}
    chosen, why = best.choose(fitted, rows, contract, settings.seed)
    found = fitted[chosen]
    exported = Export(found.onnx, None, {}, {})
    if export is not None:
        exported = quantise.export(found.onnx, contract, lambda: rows.table("validation"), export, settings.seed)
    content = contract.model_copy(update={"onnx_sha256": sha256(exported.onnx)})
    return Trained(
        onnx=exported.onnx,
        contract=content.to_bytes(),
        native=found.native,
        native_name=named(chosen).NATIVE,
        metrics=to_json(
            {"family": chosen, "training": identity(chosen, rows, settings)}
            | facts
            | found.facts
            | why
            | ({"export": exported.facts} if exported.facts else {}),
        ),
        plain=exported.plain,
        readings=to_json(exported.readings),
    )


def families(settings: TrainParams) -> tuple[str, ...]:
    """What is trained."""
    return best.FAMILIES if settings.family == "best" else (settings.family,)


def fit(name: str, rows: Source, settings: TrainParams, keep: Store | None, mlflow: str = "") -> Fitted:
    """Train one family; what it leaves behind is kept too, so that it is there when a later one, or its export, is killed."""
    family = named(name)
    training = identity(name, rows, settings)
    result = Checkpoints(keep, f"{training}-done", settings.checkpoint)
    if kept := result.latest():
        print(f"train: {name} is done already", flush=True)
        return Fitted.parse(kept.content)
    checkpoints = Checkpoints(keep, training, settings.checkpoint)
    tracker = track(mlflow, name, training, settings) if mlflow else None
    progress = Progress(name, family.UNIT, gpu=settings.device == "cuda", tracker=tracker)
    with Ending() as ending, progress:
        try:
            fitted = family.fit(rows, rows.contract(), settings, Job(checkpoints, progress, ending))
        except Ended:
            print(f"train: {name} ends as it was asked to; the next one goes on from its newest checkpoint", flush=True)
            raise
    result.put(1, ".json", fitted.to_bytes)
    if result.flush() and not result.lost:
        checkpoints.clear()
    return fitted


def track(mlflow: str, name: str, training: str, settings: TrainParams) -> Tracker:
    """The run in MLflow of this training."""
    tags = {"airloop.family": name, "airloop.run": os.environ.get("AIRLOOP_RUN", "")}
    return Tracker(mlflow, training, training, tags, shaping(name, settings))


def identity(name: str, rows: Source, settings: TrainParams) -> str:
    """``<family>-<digest of all that its bytes depend on>``: trainings with the same go on from each other's checkpoints.

    Not the machine: a training that goes on where another kind of processor began it gives a model as good as any, whose bytes
    neither of the two would have given alone. Losing what was learned would be worse.
    """
    about = to_json([named(name).VERSION, rows.digest, shaping(name, settings), code_digest()])
    return f"{name}-{sha256(about)[:32]}"


def code_digest() -> str:
    """SHA-256 of the code that trains, and of what the model declares for it."""
    found = hashlib.sha256()
    for path in sorted(path for part in SHAPING_CODE for path in (part.rglob("*.py") if part.is_dir() else [part])):
        found.update(path.read_bytes())
    found.update(to_json(spec_file.digests(spec.current(), *SHAPING_SECTIONS)))
    return found.hexdigest()


def shaping(name: str, settings: TrainParams) -> dict[str, Any]:
    """The settings that shape what the family ``name`` learns."""
    return settings.model_dump(mode="json", include={"device", "seed", "threads", "validation", name})


def forget(rows: Source, settings: TrainParams, keep: Store) -> None:
    """Delete this training's checkpoints, now that its result is written."""
    for name in families(settings):
        training = identity(name, rows, settings)
        for folder in (training, f"{training}-done"):
            Checkpoints(keep, folder, settings.checkpoint).clear()


def write(trained: Trained, folder: Path = Path("model")) -> None:
    """Write the files of ``folder``: one more where INT8 ships."""
    for name, content in (
        ("model.onnx", trained.onnx),
        ("contract.json", trained.contract),
        (trained.native_name, trained.native),
        ("metrics.json", trained.metrics),
    ):
        write_atomic(folder / name, content)
    if trained.plain is None:
        (folder / PLAIN).unlink(missing_ok=True)
    else:
        write_atomic(folder / PLAIN, trained.plain)


def main() -> None:
    """Train the model of params.intervals."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    settings = params.load()
    started = time.monotonic()
    rows, keep = source(settings), store()
    trained = train(rows, settings.train, keep, environment().mlflow_tracking_uri, settings.export)
    write(trained)
    write_atomic(Path("export.json"), trained.readings)
    forget(rows, settings.train, keep)
    facts = json.loads(trained.metrics)
    print(
        f"train: {facts['family']} on {facts['rows']['train']} of {facts['rows']['read']} rows ({facts['intervals'][0]} to "
        f"{facts['data_through']}), validation log loss {facts['validation_log_loss']:.5f}, "
        f"{len(trained.onnx) // 1000} kB of ONNX, {time.monotonic() - started:.1f} s"
    )
    if export := facts.get("export"):
        print(
            f"train: export.quantize={export['asked']}: {export['shipped']} ships"
            + "".join(f"; {r}" for r in export["reasons"])
        )


if __name__ == "__main__":
    run_main(main)
