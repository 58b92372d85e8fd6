"""register: a candidate that passed the gate becomes a model version, with all that rebuilds it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.core.errors import DataError, Skip, run_main
from tasks.core.results import emit
from tasks.registry import logged, mlflow_registry, versions, view
from tasks.registry.mlflow_registry import registered_name
from tasks.registry.mlflow_server import PROGRESS, TRAINING, experiment_name
from tasks.running import pod_record
from tasks.running.runs import Run, read_run
from tasks.settings import params, policy, settings_files
from tasks.settings.environment import environment, store
from tasks.storage.artefacts import Store, sha256_file

if TYPE_CHECKING:
    from mlflow import MlflowClient


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
    digest = sha256_file(root / "model/model.onnx")
    for name, path in logged.KEPT.items():
        target.write(f"models/{digest}/{name}", (root / path).read_bytes())
    return digest


def why(verdict: dict[str, Any]) -> str:
    """The gate's reason in a line, for the ledger and for people."""
    return f"gate: {verdict.get('summary') or verdict.get('verdict')}"


def tags(run: Run, root: Path) -> dict[str, str]:
    """What makes the version rebuildable, as model-version tags: digests, since MLflow cuts long tags."""
    return {
        "airloop.run": run.key,
        "airloop.data_through": run.last,
        "airloop.labelled_through": settings_files.calendar_of(root, run.model).labelled_through(run.last),
        "airloop.policy": json.loads((root / "gate/gate.json").read_bytes())["evidence"]["policy"],
        "airloop.code": run.code.revision,
        "airloop.code_dirty": str(run.code.dirty).lower(),
        "airloop.tree": run.code.tree,
        **{f"{versions.SETTINGS}{name}": sha256_file(root / name) for name in settings_files.recorded(run.model)},
        "airloop.dvc_lock": sha256_file(root / "dvc.lock"),
        "airloop.onnx": sha256_file(root / "model/model.onnx"),
        "airloop.training": json.loads((root / "model/metrics.json").read_text())["training"],
        "airloop.contract": sha256_file(root / "model/contract.json"),
        "airloop.gate": sha256_file(root / "gate/gate.json"),
        "airloop.why": why(json.loads((root / "gate/gate.json").read_text())),
        **({"airloop.reason": run.reason} if run.reason else {}),
    }


def register(root: Path, run: Run, target: Store) -> int:
    """Log the run to MLflow and give the model a number, in the store's book and in MLflow; returns it.

    Asked again for the same run, it returns the number that is there.
    """
    wanted = tags(run, root)
    if found := training_run(mlflow_registry.client(), wanted["airloop.training"]):
        wanted["airloop.training_run"] = found
    names = (*settings_files.recorded(run.model), *versions.REBUILD)
    files = {name: (root / name).read_bytes() for name in names}
    files["gate.json"] = (root / "gate/gate.json").read_bytes()
    record = versions.put_record(target, wanted["airloop.onnx"], files)
    return view.enter(target, root, record, wanted, costs(run, root, target)).version


def costs(run: Run, root: Path, target: Store) -> dict[str, float]:
    """What the run's pods cost, empty where it had none."""
    used = pod_record.usage(run.key, target)
    if not used:
        return {}
    return logged.numbers("pods", pod_record.cost(used, params.load(root).pods.prices))


def training_run(client: MlflowClient, training: str) -> str | None:
    """Id of the run that holds the training's progress; None where MLflow was away meanwhile."""
    with mlflow_registry.answering():
        experiment = client.get_experiment_by_name(experiment_name(PROGRESS))
        if experiment is None:
            return None
        found = client.search_runs([experiment.experiment_id], f"tags.`{TRAINING}` = '{training}'", max_results=1)
    return str(found[0].info.run_id) if found else None


def main() -> None:
    """Register the candidate of this run, or skip with the gate's reasons."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    root = Path()
    run = read_run(root)
    report = (root / "gate/gate.json").read_bytes()
    store().write(f"runs/{run.key}/gate.json", report)  # a refusal is kept as well as a promotion
    verdict = json.loads(report)
    require_passed(verdict)
    policy.require(verdict.get("evidence", {}).get("policy"), environment().code, run.model)
    require_same_model(verdict, root)
    digest = put_model(root, store())
    version = register(root, run, store())
    print(f"registered {registered_name()} v{version}, trained through {run.last}; {why(verdict)}")
    emit({"interval": run.last, "version": version, "model": digest, "run": run.key, "why": why(verdict)})


if __name__ == "__main__":
    run_main(main)
