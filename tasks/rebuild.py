"""rebuild: makes a registered model again from the registry and the DVC remote alone, and compares.

python -m tasks.rebuild 2
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import yaml

from tasks.common import code, registry
from tasks.common.artefacts import sha256_file
from tasks.common.dvc_repo import Project, initialise
from tasks.common.environment import environment, store
from tasks.common.errors import AirloopError, DataError, run_main
from tasks.common.params_file import put
from tasks.common.runs import Run

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

TOLERANCE = 1e-6
"""Largest difference of a probability on another machine."""

RECORD = {"params.yaml": "airloop.params", "dvc.lock": "airloop.dvc_lock"}
"""Files logged with the version, and the tags that hold their sha256."""


def fetch_record(version: ModelVersion, target: Path) -> Run:
    """Download the version's record from MLflow to ``target``; DataError when a file is not what its tag says."""
    import mlflow

    mlflow.set_tracking_uri(environment().mlflow_tracking_uri)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    mlflow.artifacts.download_artifacts(run_id=version.run_id, artifact_path="rebuild", dst_path=str(target))
    for name, tag in RECORD.items():
        if sha256_file(target / "rebuild" / name) != version.tags[tag]:
            raise DataError(
                f"{name} in MLflow is not the one that v{version.version} was made with: it was altered. Restore MLflow's "
                "artefacts from a backup; until then this version cannot be rebuilt, and training again gives a new one."
            )
    return Run.model_validate_json((target / "rebuild/run.json").read_bytes())


def clone(run: Run, root: Path) -> str:
    """Put the run's code at ``root``: a clone at its commit, else the files kept in the store; says which."""
    root.mkdir(parents=True)
    source = environment().code
    if not run.code.dirty and (source / ".git").exists():
        subprocess.run(["git", "clone", "--quiet", "--no-checkout", str(source), str(root)], check=True)
        done = subprocess.run(["git", "-C", str(root), "checkout", "--quiet", run.code.revision], check=False)
        if done.returncode == 0 and code.tree_digest(root) == run.code.tree:
            return f"a clean clone at {run.code.revision[:12]}"
    for path in code.files(root):
        (root / path).unlink()
    code.unpack(run.code, store(), root)
    if code.tree_digest(root) != run.code.tree:
        raise DataError(
            f"code/{run.code.tree}.tar.gz in the store does not have that digest: it was altered. Restore it from a "
            "backup of the store, or train again."
        )
    return "the files kept in the store" + (" (the run had uncommitted changes)" if run.code.dirty else "")


def pin_export(settings: Path, model: str) -> None:
    """Let the params.yaml at ``settings`` ask for what the registered ``model`` became, where a measurement chose it.

    What the clock said cannot be said again; what was decided on it is in the evaluation that is kept with the model.
    """
    # Read as it stands: the model may be older than a section that this code's params.yaml must have.
    if (yaml.safe_load(settings.read_text()).get("export") or {}).get("quantize") != "dynamic":
        return
    told = store().read_json(f"models/{model}/evaluation.json")["candidate"]["training"]["export"]
    put(settings, {"export.quantize": "int8" if told["shipped"] == "int8" else "none"})


def retrain(root: Path, record: Path, model: str) -> None:
    """Fetch the recorded features into an empty cache and run the train stage on them."""
    for name in RECORD:
        (root / name).write_bytes((record / name).read_bytes())
    pin_export(root / "params.yaml", model)
    initialise(root, cache=root / ".cache", remote=environment().remote_url, site_cache=root / ".site-cache")
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    os.environ["PYTHONPATH"] = str(root)
    # From the beginning, whatever checkpoints there are, and without telling MLflow of the training a second time.
    os.environ |= {"AIRLOOP_STORE": (root / ".store").as_uri(), "MLFLOW_TRACKING_URI": ""}
    here = Path.cwd()
    os.chdir(root)
    try:
        project = Project(root)
        project.materialise(project.producers("train"))
        project.reproduce(["train"], again=True)
        project.close()
    finally:
        os.chdir(here)


def largest_gap(rebuilt: Path, original: Path, features: Path) -> float:
    """Largest absolute difference of the two models' probabilities over the rows of ``features``."""
    import pyarrow.parquet as pq

    from tasks.common.model import load

    table = pq.read_table(features)
    scores = []
    for folder in (rebuilt, original):
        onnx = folder / "model.onnx"
        model = load(onnx.read_bytes(), (folder / "contract.json").read_bytes(), sha256_file(onnx))
        scores.append(model.predict(model.contract.encode(table)))
    return float(np.max(np.abs(scores[0] - scores[1])))


def main() -> None:
    """Rebuild one version and say whether it is the same."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version", type=int, help="model version in MLflow")
    number = parser.parse_args().version
    version = registry.version(number, registry.client())
    evidence = registry.evidence(version)
    with tempfile.TemporaryDirectory(prefix="airloop-rebuild-") as folder:
        work = Path(folder)
        run = fetch_record(version, work)
        print(f"v{number}: {run.key}, from {clone(run, work / 'clone')}", flush=True)
        retrain(work / "clone", work / "rebuild", evidence.model)
        rebuilt = work / "clone/model"
        if sha256_file(rebuilt / "model.onnx") == evidence.model:
            print(f"v{number} rebuilt: the same ONNX bytes, sha256 {evidence.model}")
            return
        original = work / "original"
        original.mkdir()
        for name in ("model.onnx", "contract.json"):
            (original / name).write_bytes(store().read(f"models/{evidence.model}/{name}"))
        gap = largest_gap(rebuilt, original, work / f"clone/data/features/{run.month}.parquet")
        here = f"{platform.machine()}, Python {platform.python_version()}"
        if gap > TOLERANCE:
            raise AirloopError(
                f"v{number} could not be rebuilt: predictions differ by up to {gap:.2e} here ({here}). Code, params "
                "and data are the recorded ones, so look at the library versions (requirements/) and the processor."
            )
        print(f"v{number} rebuilt: other ONNX bytes here ({here}), predictions equal within {gap:.1e}")


if __name__ == "__main__":
    run_main(main)
