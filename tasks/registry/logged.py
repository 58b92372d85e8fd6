"""A model in MLflow as a run with the ONNX model, its numbers, reports and what makes it again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import version as installed
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from tasks.core.errors import DataError
from tasks.registry import mlflow_registry
from tasks.registry.mlflow_server import TRAIN, experiment_name
from tasks.registry.versions import REBUILD, Version
from tasks.settings import settings_files
from tasks.storage.artefacts import Store, sha256

if TYPE_CHECKING:
    from mlflow import MlflowClient

KEPT = {
    "contract.json": "model/contract.json",
    "smoke.json": "evaluation/smoke.json",
    "gate.json": "gate/gate.json",
    "evaluation.json": "evaluation/evaluation.json",
    "model.onnx": "model/model.onnx",
}
"""Files of a model in the store, and where a run's workspace has them; the model is last, so that it is never there alone."""


def find(client: MlflowClient, run: str, model: str) -> tuple[str, str] | None:
    """URI and run id of the logged model of this training run with this ONNX digest; None where MLflow has none."""
    wanted = f"tags.`airloop.run` = '{run}' and tags.`airloop.onnx` = '{model}' and attributes.status = 'FINISHED'"
    for found in client.search_runs([mlflow_registry.experiment(client, experiment_name(TRAIN))], wanted):
        outputs = found.outputs.model_outputs if found.outputs else []
        for output in outputs:
            if mlflow_registry.has_logged_model(client, output.model_id):
                return f"models:/{output.model_id}", str(found.info.run_id)
    return None


def log(
    client: MlflowClient, root: Path, name: str, tags: Mapping[str, str], metrics: Mapping[str, float]
) -> tuple[str, str]:
    """Log the model whose workspace is ``root`` to a new run; returns the model's URI and the run's id.

    Args:
        client: of the tracking server.
        root: a training run's workspace, or what `bring` made of the store's.
        name: of the run, for people.
        tags: of the run.
        metrics: beside those of the evaluation.
    """
    import mlflow

    experiment_id = mlflow_registry.experiment(client, experiment_name(TRAIN))
    with mlflow.start_run(experiment_id=experiment_id, run_name=name, tags=dict(tags)) as run:
        evaluation = json.loads((root / "evaluation/evaluation.json").read_text())
        _log_settings(root, evaluation)
        mlflow.log_metrics(numbers("golden", evaluation.get("candidate", {}).get("golden", {})) | dict(metrics))
        for file in (*settings_files.present(root), *REBUILD):
            mlflow.log_artifact(str(root / file), str(PurePosixPath("rebuild", file).parent))
        for folder, file in (("gate", "gate/gate.json"), ("model_files", "model/contract.json")):
            mlflow.log_artifact(str(root / file), folder)
        mlflow.log_artifacts(str(root / "evaluation"), "evaluation")
        if (
            root / "export.json"
        ).exists():  # the clock's readings; not kept, so not there where another machine trained
            mlflow.log_artifact(str(root / "export.json"), "evaluation")
        return _log_model(root), str(run.info.run_id)


def bring(store: Store, version: Version, root: Path) -> None:
    """Lay a registered version's files below ``root`` as its run's workspace had them.

    Raises:
        DataError: a file is missing, or is not the one that was registered.
    """
    model, known = version.model, version.tags
    digests = {
        "model.onnx": model,
        "contract.json": known["airloop.contract"],
        "dvc.lock": known.get("airloop.dvc_lock"),
        "gate.json": known.get("airloop.gate"),
        **version.settings,
    }
    names = {name: f"models/{model}/{name}" for name in KEPT}
    names |= {name: version.file(name) for name in (*version.settings, *REBUILD, "gate.json")}
    for name, kept in names.items():
        path = root / KEPT.get(name, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.write_bytes(store.read(kept, digests.get(name)))
        except FileNotFoundError:
            raise DataError(f"{store.uri(kept)} is missing: restore it from a backup of the store.") from None


def numbers(prefix: str, values: Mapping[str, Any]) -> dict[str, float]:
    """The numeric entries of ``values``, each under ``prefix``."""
    return {f"{prefix}.{k}": float(v) for k, v in values.items() if isinstance(v, int | float)}


def _log_settings(root: Path, evaluation: Mapping[str, Any]) -> None:
    import mlflow

    # As they are: the model may be older than a section that this code must have.
    settings = settings_files.as_they_are(root)
    mlflow.log_params({f"train.{key}": value for key, value in settings.get("train", {}).items()})
    mlflow.log_params({f"export.{key}": value for key, value in _export(evaluation).items()})
    mlflow.log_param("intervals", ",".join(settings.get("intervals", {})))


def _log_model(root: Path) -> str:
    """Log the ONNX model with signature and example; returns its URI."""
    import mlflow
    import numpy as np
    import onnx
    from mlflow.models import infer_signature

    from tasks.modelling.model import load

    width = len(json.loads((root / "model/contract.json").read_text())["features"])
    example = np.zeros((1, width), dtype=np.float32)
    onnx_bytes = (root / "model/model.onnx").read_bytes()
    model = load(onnx_bytes, (root / "model/contract.json").read_bytes(), sha256(onnx_bytes))
    logged = mlflow.onnx.log_model(
        onnx.load_model_from_string(onnx_bytes),
        name="model",
        signature=infer_signature(example, {"probabilities": model.predict(example)}),
        input_example=example,
        save_as_external_data=False,
        onnx_execution_providers=["CPUExecutionProvider"],
        # Named here, or MLflow loads the model in another process to find out, which takes ten seconds.
        pip_requirements=[f"{name}=={installed(name)}" for name in ("mlflow", "numpy", "onnx", "onnxruntime")],
    )
    return str(logged.model_uri)


def _export(evaluation: Mapping[str, Any]) -> dict[str, str]:
    """What was asked of the export, what shipped and why; empty where nothing was asked."""
    export = evaluation.get("candidate", {}).get("training", {}).get("export")
    return (
        {}
        if export is None
        else {"asked": export["asked"], "shipped": export["shipped"], "reasons": "; ".join(export["reasons"])}
    )
