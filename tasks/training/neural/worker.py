"""A process of several that train together, started by torchrun's agent: python -m tasks.training.neural.worker FOLDER."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tasks.core.errors import run_main
from tasks.modelling.model import Contract
from tasks.settings.training_params import TrainParams
from tasks.settings.value_types import DayRule
from tasks.storage.artefacts import to_json, write_atomic
from tasks.training.checkpoints import Checkpoints
from tasks.training.ending import Ending
from tasks.training.family import Job
from tasks.training.neural.group import joined
from tasks.training.neural.launch import live_with
from tasks.training.neural.learn import learn
from tasks.training.progress import Progress
from tasks.training.source import Source


def main() -> None:
    """Train as FOLDER/task.json says; the first process leaves the model in FOLDER."""
    folder = Path(sys.argv[1])
    task = json.loads((folder / "task.json").read_bytes())
    live_with(task["parent"])
    settings = TrainParams.model_validate(task["settings"])
    source = source_of(task["source"])
    contract = Contract.model_validate(task["contract"])
    with Ending() as ending, joined(settings.device) as group, ExitStack() as stack:
        checkpoints = Checkpoints.at(task["checkpoints"], settings.checkpoint)
        progress = Progress.taken_over(task["progress"])
        if group.first:
            stack.enter_context(progress)
        fitted = learn(source, contract, settings, Job(checkpoints, progress, ending), group)
        checkpoints.flush()
    if fitted is not None:
        for name, content in (("onnx", fitted.onnx), ("native", fitted.native), ("facts.json", to_json(fitted.facts))):
            write_atomic(folder / name, content)


def source_of(given: dict[str, Any]) -> Source:
    """The source that launch.task describes."""
    holdout, validation = (DayRule.model_validate(given[part]) for part in ("holdout", "validation"))
    span = tuple(given["span"]) if given["span"] else None
    return Source(Path(given["folder"]), tuple(given["intervals"]), holdout, validation, span)


if __name__ == "__main__":
    run_main(main)
