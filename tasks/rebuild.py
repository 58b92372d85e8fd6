"""rebuild: makes a registered model again from its record in the store and the DVC remote alone, and compares.

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

import numpy as np

from tasks.core.errors import AirloopError, DataError, run_main
from tasks.core.urls import url_of
from tasks.registry import versions
from tasks.registry.versions import Version
from tasks.running.runs import Run
from tasks.settings import code, settings_files
from tasks.settings.environment import environment, store
from tasks.settings.settings_files import put
from tasks.storage.artefacts import Store, sha256_file, write_atomic
from tasks.versioning.new_project import initialise
from tasks.versioning.project import Project

TOLERANCE = 1e-6
"""Largest difference of a probability on another machine."""


def fetch_record(version: Version, source: Store, target: Path) -> Run:
    """Copy the version's record to ``target``; DataError when a file is missing or not what its tag says."""
    digests = {**version.settings, "dvc.lock": version.tags["airloop.dvc_lock"], "run.json": None}
    for name, digest in digests.items():
        kept = version.file(name)
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            (target / name).write_bytes(source.read(kept, digest))
        except FileNotFoundError:
            raise DataError(
                f"{source.uri(kept)} is missing, so v{version.version} cannot be rebuilt. Restore it from a backup of the "
                "store; training again gives a new version."
            ) from None
    return Run.model_validate_json((target / "run.json").read_bytes())


def clone(run: Run, root: Path) -> str:
    """Put the run's code at ``root``: a clone at its commit, else the files kept in the store; says which."""
    root.mkdir(parents=True)
    source = environment().code
    if not run.code.dirty and (source / ".git").exists():
        subprocess.run(["git", "clone", "--quiet", "--no-checkout", str(source), str(root)], check=True)
        done = subprocess.run(["git", "-C", str(root), "checkout", "--quiet", run.code.revision], check=False)
        if done.returncode == 0 and code.tree_digest(root, run.model) == run.code.tree:
            return f"a clean clone at {run.code.revision[:12]}"
    for path in code.files(root, run.model):
        (root / path).unlink()
    code.unpack(run.code, store(), root)
    return "the files kept in the store" + (" (the run had uncommitted changes)" if run.code.dirty else "")


def pin_export(root: Path, model: str) -> None:
    """Let the settings at ``root`` ask for what the registered ``model`` became, where a measurement chose it.

    What the clock said cannot be said again; what was decided on it is in the evaluation that is kept with the model.
    """
    # As they are: the model may be older than a section that this code must have.
    if (settings_files.as_they_are(root).get("export") or {}).get("quantize") != "dynamic":
        return
    export = store().read_json(f"models/{model}/evaluation.json")["candidate"]["training"]["export"]
    put(settings_files.path_of("export", root), {"export.quantize": "int8" if export["shipped"] == "int8" else "none"})


def retrain(root: Path, record: Path, model: str) -> None:
    """Fetch the recorded features into an empty cache and run the train stage on them."""
    for name in (*settings_files.present(record), "dvc.lock"):
        write_atomic(root / name, (record / name).read_bytes())
    pin_export(root, model)
    initialise(root, cache=root / ".cache", remote=environment().remote_url, site_cache=root / ".site-cache")
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    os.environ["PYTHONPATH"] = str(root)
    # From the beginning, whatever checkpoints there are, and without sending the training to MLflow a second time.
    os.environ |= {"AIRLOOP_STORE": url_of(root / ".store"), "MLFLOW_TRACKING_URI": ""}
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

    from tasks.modelling.model import load

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
    parser.add_argument("version", type=int, help="number of a registered model version")
    number = parser.parse_args().version
    version = versions.read(store(), number)
    evidence = version.evidence
    with tempfile.TemporaryDirectory(prefix="airloop-rebuild-") as folder:
        work = Path(folder)
        run = fetch_record(version, store(), work / "rebuild")
        print(f"v{number}: {run.key}, from {clone(run, work / 'clone')}", flush=True)
        os.environ["AIRLOOP_MODEL"] = run.model  # of the stage's process, whatever this one works for
        retrain(work / "clone", work / "rebuild", evidence.model)
        rebuilt = work / "clone/model"
        if sha256_file(rebuilt / "model.onnx") == evidence.model:
            print(f"v{number} rebuilt: the same ONNX bytes, sha256 {evidence.model}")
            return
        original = work / "original"
        original.mkdir()
        for name in ("model.onnx", "contract.json"):
            (original / name).write_bytes(store().read(f"models/{evidence.model}/{name}"))
        gap = largest_gap(rebuilt, original, work / f"clone/data/features/{run.last}.parquet")
        here = f"{platform.machine()}, Python {platform.python_version()}"
        if gap > TOLERANCE:
            raise AirloopError(
                f"v{number} could not be rebuilt: predictions differ by up to {gap:.2e} here ({here}). Code, params "
                "and data are the recorded ones, so look at the library versions (requirements/) and the processor."
            )
        print(f"v{number} rebuilt: other ONNX bytes here ({here}), predictions equal within {gap:.1e}")


if __name__ == "__main__":
    run_main(main)
