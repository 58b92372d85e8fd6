"""Trainings in several processes that are forked from one which has PyTorch: python -m tests.training.ranks FOLDER.

Reads FOLDER/tasks.json, a list of tasks, and writes FOLDER/results.json. What differs from torchrun's workers is only who
started them.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import torch.multiprocessing

from tasks.settings.training_params import TrainParams
from tasks.settings.value_types import DayRule
from tasks.storage.artefacts import Store, sha256
from tasks.training.checkpoints import Checkpoints
from tasks.training.ending import Ended, Ending
from tasks.training.family import Job
from tasks.training.neural.group import joined
from tasks.training.neural.learn import learn
from tasks.training.progress import Progress
from tasks.training.source import Source


class Recorder(Progress):
    """Notes each step's loss, and asks one process to end after a step."""

    def __init__(self, ending: Ending, stop: int | None) -> None:
        super().__init__("mlp", seconds=1e9)
        self.losses: list[float] = []
        self.steps: list[int] = []
        self.ending, self.stop = ending, stop

    def step(self, step: int, of: int, samples: int, losses: dict[str, float], *_: Any, **__: Any) -> None:
        self.steps.append(step)
        self.losses.append(losses["loss"])
        self.ending.asked |= step == self.stop


def train(rank: int, folder: Path, number: int, task: dict[str, Any], port: int) -> None:
    """One process of one task; the first writes what came of it."""
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(task["world"]),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    settings = TrainParams.model_validate(task["settings"])
    source = Source(
        Path(task["features"]), tuple(task["intervals"]), DayRule.model_validate(task["holdout"]), settings.validation
    )
    ending = Ending()
    recorder = Recorder(ending, task.get("stop"))
    store = Store(task["store"]) if task.get("store") else None
    checkpoints = Checkpoints(store, "x", settings.checkpoint)
    result: dict[str, Any] = {}
    with joined(settings.device) as group:
        try:
            fitted = learn(source, source.contract(), settings, Job(checkpoints, recorder, ending), group)
        except Ended as ended:
            result = {"ended": ended.code}
        else:
            if fitted is not None:
                result = {"native": sha256(fitted.native), "onnx": sha256(fitted.onnx), "facts": fitted.facts}
    result |= {"losses": recorder.losses, "steps": recorder.steps}
    (folder / f"{number}-{rank}.json").write_text(json.dumps(result))


def main() -> None:
    """Do all tasks, one after the other."""
    folder = Path(sys.argv[1])
    results = []
    for number, task in enumerate(json.loads((folder / "tasks.json").read_text())):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        torch.multiprocessing.start_processes(
            train, (folder, number, task, port), nprocs=task["world"], start_method="fork"
        )
        results.append([json.loads((folder / f"{number}-{r}.json").read_text()) for r in range(task["world"])])
    (folder / "results.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main()
