"""register: a candidate that passed the gate becomes a model version, with all that rebuilds it."""

from __future__ import annotations

import argparse
import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.common import params, pod_record
from tasks.common.artefacts import Store, sha256, sha256_file
from tasks.common.environment import environment, store
from tasks.common.errors import AirloopError, DataError, Skip, run_main
from tasks.common.registry import MODEL
from tasks.common.results import emit
from tasks.common.runs import Run, read_run
from tasks.common.tracking import PROGRESS, TRAINING

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "airloop-train"


def require_passed(verdict: dict[str, Any]) -> None:
    """Skip, with every reason, unless the gate let the candidate through."""
    if verdict.get("passed") is not True:
        reasons = verdict.get("failures") or ["gate.json does not say that it passed"]
        raise Skip(f"the gate says {verdict.get('verdict', 'refused')}: " + "; ".join(reasons))


def require_same_model(verdict: dict[str, Any], root: Path) -> None:
    """DataError unless the model in the workspace is the one that the gate judged."""
    for name, file in (("model", "model.onnx"), ("contract", "contract.json")):
        judged, here = verdict["evidence"].get(name), sha256_file(root / "model" / file)
        if judged != here:
            raise DataError(
                f"model/{file} has sha256 {here[:12]}..., but the gate judged {str(judged)[:12]}...; "
                "a model that the gate has not seen is not registered. Run the train DAG again."
            )


def put_model(root: Path, target: Store) -> str:
    """Copy the model's files to ``models/<sha256>/`` in the store; returns the sha256 of the ONNX file."""
    onnx = (root / "model/model.onnx").read_bytes()
    folder = f"models/{sha256(onnx)}"
    for name, path in (
        ("contract.json", "model/contract.json"),
        ("smoke.json", "evaluation/smoke.json"),
        ("gate.json", "gate/gate.json"),
        ("evaluation.json", "evaluation/evaluation.json"),
    ):
        target.write(f"{folder}/{name}", (root / path).read_bytes())
    target.write(f"{folder}/model.onnx", onnx)
    return sha256(onnx)


def why(verdict: dict[str, Any]) -> str:
    """The gate's reason in a line, for the ledger and for people."""
    return f"gate: {verdict.get('summary') or verdict.get('verdict')}"


def tags(run: Run, root: Path) -> dict[str, str]:
    """What makes the version rebuildable, as model-version tags: digests, since MLflow cuts long tags."""
    return {
        "airloop.run": run.key,
        "airloop.data_through": run.month,
        "airloop.code": run.code.revision,
        "airloop.code_dirty": str(run.code.dirty).lower(),
        "airloop.tree": run.code.tree,
        "airloop.params": sha256_file(root / "params.yaml"),
        "airloop.dvc_lock": sha256_file(root / "dvc.lock"),
        "airloop.onnx": sha256_file(root / "model/model.onnx"),
        "airloop.training": json.loads((root / "model/metrics.json").read_text())["training"],
        "airloop.contract": sha256_file(root / "model/contract.json"),
        "airloop.gate": sha256_file(root / "gate/gate.json"),
        "airloop.why": why(json.loads((root / "gate/gate.json").read_text())),
        **({"airloop.reason": run.reason} if run.reason else {}),
    }


def register(root: Path, run: Run) -> int:
    """Log the run to MLflow and create the model version; returns its number.

    Asked again for the same run, it returns the version that is there.
    """
    import mlflow
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    mlflow.set_tracking_uri(environment().mlflow_tracking_uri)
    client = MlflowClient()
    wanted = tags(run, root)
    try:
        try:
            client.create_registered_model(MODEL)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        for known in client.search_model_versions(f"name='{MODEL}'"):
            if known.tags.get("airloop.run") == run.key and known.tags.get("airloop.onnx") == wanted["airloop.onnx"]:
                return int(known.version)
        if found := training_run(client, wanted["airloop.training"]):
            wanted["airloop.training_run"] = found
        mlflow.set_experiment(EXPERIMENT)
        with mlflow.start_run(run_name=run.key, tags=wanted):
            created = mlflow.register_model(_log(root, run), MODEL, tags=wanted)
        return int(created.version)
    except (MlflowException, OSError) as error:
        raise AirloopError(
            f"MLflow at {environment().mlflow_tracking_uri} refused to register the model: {error}. "
            "See that it runs (`make up`), then clear the register task."
        ) from error


def training_run(client: MlflowClient, training: str) -> str | None:
    """Id of the run that holds the training's progress; None where MLflow was away meanwhile."""
    experiment = client.get_experiment_by_name(PROGRESS)
    if experiment is None:
        return None
    found = client.search_runs([experiment.experiment_id], f"tags.`{TRAINING}` = '{training}'", max_results=1)
    return str(found[0].info.run_id) if found else None


def _log(root: Path, run: Run) -> str:
    """Log parameters, metrics, reports and the ONNX model with signature and example; returns the model's URI."""
    import mlflow
    import numpy as np
    import onnx
    from mlflow.models import infer_signature

    evaluation = json.loads((root / "evaluation/evaluation.json").read_text())
    settings = params.load(root / "params.yaml")
    mlflow.log_params({f"train.{key}": value for key, value in settings.train.model_dump().items()})
    mlflow.log_params({f"export.{key}": value for key, value in _export(evaluation).items()})
    mlflow.log_param("months", ",".join(settings.months))
    mlflow.log_metrics(_numbers("golden", evaluation.get("candidate", {}).get("golden", {})))
    if used := pod_record.usage(run.key, store()):
        mlflow.log_metrics(_numbers("pods", pod_record.cost(used, settings.pods.prices)))
    for folder, file in (
        ("rebuild", "params.yaml"),
        ("rebuild", "dvc.lock"),
        ("rebuild", "dvc.yaml"),
        ("rebuild", "run.json"),
        ("gate", "gate/gate.json"),
        ("model_files", "model/contract.json"),
    ):
        mlflow.log_artifact(str(root / file), folder)
    mlflow.log_artifacts(str(root / "evaluation"), "evaluation")
    if (root / "export.json").exists():  # the clock's readings; not kept, so not there where another machine trained
        mlflow.log_artifact(str(root / "export.json"), "evaluation")
    width = len(json.loads((root / "model/contract.json").read_text())["features"])
    example = np.zeros((1, width), dtype=np.float32)
    from tasks.common.model import load

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
        pip_requirements=[f"{name}=={version(name)}" for name in ("mlflow", "numpy", "onnx", "onnxruntime")],
    )
    return str(logged.model_uri)


def _export(evaluation: dict[str, Any]) -> dict[str, str]:
    """What was asked of the export, what shipped and why; empty where nothing was asked."""
    told = evaluation.get("candidate", {}).get("training", {}).get("export")
    return (
        {}
        if told is None
        else {"asked": told["asked"], "shipped": told["shipped"], "reasons": "; ".join(told["reasons"])}
    )


def _numbers(prefix: str, values: dict[str, Any]) -> dict[str, float]:
    """The numeric entries of ``values``, each under ``prefix``."""
    return {f"{prefix}.{k}": float(v) for k, v in values.items() if isinstance(v, int | float)}


def main() -> None:
    """Register the candidate of this run, or skip with the gate's reasons."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    root = Path()
    run = read_run(root)
    report = (root / "gate/gate.json").read_bytes()
    store().write(f"runs/{run.key}/gate.json", report)  # a refusal is kept as well as a promotion
    verdict = json.loads(report)
    require_passed(verdict)
    require_same_model(verdict, root)
    digest = put_model(root, store())
    version = register(root, run)
    print(f"registered {MODEL} v{version}, trained through {run.month}; {why(verdict)}")
    emit({"month": run.month, "version": version, "model": digest, "run": run.key, "why": why(verdict)})


if __name__ == "__main__":
    run_main(main)
