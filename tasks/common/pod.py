"""What a pod does around a stage or an act: `python -m tasks.common.pod python tasks/train.py`.

It opens the run from its record in the store, pulls what the command reads from the DVC remote, runs the command, pushes
what it made, adds to the run's dvc.lock, and records the result under the pod's name. That record, written last, is what
success means to whoever started the pod. Needs no volume that others see, and no git.

The environment says what it is about: AIRLOOP_RUN, AIRLOOP_DAG, AIRLOOP_MONTH; AIRLOOP_STAGE (an item of dvc.yaml) or
AIRLOOP_ACT; AIRLOOP_POD (its own name); AIRLOOP_OVERRIDES (JSON) and AIRLOOP_BEGINS in a run's first task.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from tasks.common import workspace
from tasks.common.dvc_repo import Project, read_lock
from tasks.common.environment import store
from tasks.common.errors import ConfigError, DataError, run_main
from tasks.common.pod_record import record
from tasks.common.results import RESULT_VARIABLE
from tasks.common.runs import open_run, save_record


def main() -> None:
    """Run the command line's stage or act."""
    # The first process of a container ignores SIGTERM unless it says otherwise; _run passes it on to the command.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    argv = sys.argv[1:]
    if not argv:
        raise ConfigError("No command: python -m tasks.common.pod python tasks/train.py")
    told = {name: _told(name) for name in ("AIRLOOP_RUN", "AIRLOOP_DAG", "AIRLOOP_MONTH", "AIRLOOP_POD")}
    run, month = told["AIRLOOP_RUN"], told["AIRLOOP_MONTH"]
    overrides = json.loads(os.environ.get("AIRLOOP_OVERRIDES") or "{}")
    begins = bool(os.environ.get("AIRLOOP_BEGINS"))
    root = open_run(run, told["AIRLOOP_DAG"], month, overrides, store(), begins=begins)  # type: ignore[arg-type] # checked by Run
    workspace.settle(root, run)
    if int(os.environ.get("PET_NODE_RANK") or 0) > 0:
        with contextlib.chdir(root):
            _help(root, argv)
        return
    with contextlib.chdir(root):
        result = (
            _act(root, os.environ["AIRLOOP_ACT"], month, argv) if "AIRLOOP_ACT" in os.environ else _stage(root, argv)
        )
    digest = record(run, told["AIRLOOP_POD"], {"run": run, "month": month, **result}, store())
    print(f"recorded {digest}", flush=True)


def _stage(root: Path, argv: Sequence[str]) -> dict[str, Any]:
    name = _told("AIRLOOP_STAGE")
    workspace.search_first(root, name, _run)
    project = Project(root)
    try:
        project.materialise(workspace.missing(root, project.producers(name)))
        if project.probe(name):
            project.reproduce([name])
        else:
            before = project.inputs(name)
            _run(argv)
            if project.inputs(name) != before:
                raise DataError(f"stage {name}: its inputs changed while it ran; nothing is recorded. Run it again.")
            project.commit(name)
        project.push([name])
    finally:
        project.close()
    save_record(root, store(), [name])
    return {"stage": name, "outs": {out["path"]: out["md5"] for out in read_lock(root)[name]["outs"]}}


def _help(root: Path, argv: Sequence[str]) -> None:
    """Do this pod's part of what several train together. Rank 0 has the result and records it; there is none here."""
    project = Project(root)
    try:
        project.materialise(workspace.missing(root, project.producers(_told("AIRLOOP_STAGE"))))
    finally:
        project.close()
    _run(argv)


def _act(root: Path, name: str, month: str, argv: Sequence[str]) -> dict[str, Any]:
    workspace.bring(root, name, month)
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        _run(argv, {RESULT_VARIABLE: str(result)})
        return {"act": name, **(json.loads(result.read_text()) if result.exists() else {})}


def _run(argv: Sequence[str], more: dict[str, str] | None = None) -> None:
    """Run the command and pass SIGTERM on: a pod that is evicted has its grace period to write a checkpoint.

    Ends this process with the command's exit code unless that is 0.
    """
    command = subprocess.Popen(argv, env={**os.environ, **(more or {})})

    def forward(number: int, _: FrameType | None) -> None:
        command.send_signal(number)

    before = signal.signal(signal.SIGTERM, forward)
    code = command.wait()
    signal.signal(signal.SIGTERM, before)
    if code:
        raise SystemExit(code if code > 0 else 128 - code)


def _told(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise ConfigError(
            f"{name} is not set; a pod is told what it is about by the operator in plugins/airloop/pod.py."
        )
    return value


if __name__ == "__main__":
    run_main(main)
