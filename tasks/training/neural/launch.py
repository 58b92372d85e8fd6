"""Several processes for one training: torchrun's agent starts them, and the stage's command stays what it is.

On one machine the agent meets itself; over several each machine runs the same command with torchrun's own variables
(PET_NNODES, PET_NODE_RANK, PET_MASTER_ADDR, PET_MASTER_PORT). Node 0 has the result.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import NoReturn

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import elastic_launch
from torch.distributed.run import config_from_args, parse_args

from tasks.core.errors import AirloopError, Unavailable
from tasks.core.results import EXIT_CODES
from tasks.modelling.model import Contract
from tasks.settings.training_params import TrainParams
from tasks.training.ending import Ended
from tasks.training.family import Fitted, Job
from tasks.training.source import Source

ENDED = 128 + signal.SIGTERM
CODE = Path(__file__).resolve().parents[3]


class Elsewhere(SystemExit):
    """This machine's part is done, and node 0 has the result: nothing is left to do here."""

    def __init__(self) -> None:
        super().__init__(0)


def nodes() -> str:
    """How many machines train together, as torchrun's variable says it."""
    return os.environ.get("PET_NNODES", "1")


def together(source: Source, contract: Contract, settings: TrainParams, job: Job) -> Fitted:
    """Train in ``settings.mlp.processes`` processes on each machine.

    Raises:
        Ended: this process was asked to end, and its workers have kept what they had.
        Elsewhere: another machine has the result.
        AirloopError: a worker failed; it has said why.
    """
    with tempfile.TemporaryDirectory(prefix="airloop-train-") as name:
        folder = Path(name)
        (folder / "task.json").write_bytes(task(source, contract, settings, job))
        _run(folder, settings.mlp.processes, settings.threads)
        if not (folder / "facts.json").exists():
            print(
                f"train: node {os.environ.get('PET_NODE_RANK', '0')} of {nodes()} is done; node 0 has the result",
                flush=True,
            )
            raise Elsewhere
        return Fitted(
            onnx=(folder / "onnx").read_bytes(),
            native=(folder / "native").read_bytes(),
            facts=json.loads((folder / "facts.json").read_bytes()),
        )


def task(source: Source, contract: Contract, settings: TrainParams, job: Job) -> bytes:
    """A worker's task, as JSON."""
    return json.dumps(
        {
            "source": {
                "folder": str(source.folder.resolve()),
                "intervals": source.intervals,
                "holdout": source.holdout.model_dump(),
                "validation": source.validation.model_dump(),
                "span": source.span,
            },
            "contract": contract.model_dump(mode="json"),
            "settings": settings.model_dump(mode="json"),
            "checkpoints": job.checkpoints.place,
            "progress": job.progress.handed_over(),
            "parent": os.getpid(),
        }
    ).encode()


def _run(folder: Path, processes: int, threads: int) -> None:
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(CODE), os.environ.get("PYTHONPATH", "")]))
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # else the agent sets 1, and says so at length
    # What torchrun's --standalone means: the agent is the meeting point, on a free port of this machine.
    here = ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", "--rdzv-id", uuid.uuid4().hex]
    words = [
        "--log-dir",
        str(folder / "logs"),
        "--nproc-per-node",
        str(processes),
        "-m",
        "tasks.training.neural.worker",
        str(folder),
    ]
    config, command, arguments = config_from_args(parse_args([*([] if nodes() != "1" else here), *words]))
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _nothing_to_keep)  # until the agent has workers, and a handler of its own
    try:
        elastic_launch(config, command)(*arguments)
    except SignalException as caught:
        if caught.sigval == signal.SIGTERM:
            raise Ended from None
        raise KeyboardInterrupt from None
    except ChildFailedError as failed:
        codes = {failure.exitcode for failure in failed.failures.values()}
        if ENDED in codes:
            raise Ended from None  # asked themselves, or by the processes of another machine
        raise failure(processes, {rank: one.exitcode for rank, one in failed.failures.items()}) from None


def failure(processes: int, codes: Mapping[int, int]) -> Exception:
    """What the end of some of ``processes`` means for all, by rank and exit code: one that refuses makes its peers crash."""
    ranks, ends = ", ".join(map(str, codes)), ", ".join(map(str, sorted(set(codes.values()))))
    text = f"Training in {processes} processes failed: worker(s) {ranks} ended with {ends}. What they said is above."
    for kind in (AirloopError, Unavailable):
        if EXIT_CODES[kind.status] in codes.values():
            return kind(text)
    return RuntimeError(text)  # a crash or a kill: worth another try


def _nothing_to_keep(_number: int, _frame: FrameType | None) -> NoReturn:
    raise Ended


def live_with(parent: int) -> None:
    """Die, by SIGKILL, when the process that started this one is gone.

    The agent gives each worker a session of its own, where nobody who kills the stage's group would find it.
    """
    if sys.platform == "linux":
        set_death_signal = 1
        ctypes.CDLL(None, use_errno=True).prctl(set_death_signal, signal.SIGKILL)
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGKILL)
