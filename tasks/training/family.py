"""A model family: how it learns, and what its own format says of a row. Everything else of training is shared."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any, Protocol

from tasks.modelling.model import Contract, Matrix
from tasks.settings.training_params import TrainParams
from tasks.storage.artefacts import to_json
from tasks.training.checkpoints import Checkpoints
from tasks.training.ending import Ending
from tasks.training.progress import Progress
from tasks.training.source import Source


@dataclass(frozen=True)
class Job:
    """What surrounds one training."""

    checkpoints: Checkpoints
    """Of this training, by whoever began it."""
    progress: Progress
    """Called at every step."""
    ending: Ending
    """Whether the process was asked to end."""


@dataclass(frozen=True)
class Fitted:
    """What a family leaves behind."""

    onnx: bytes
    """Maps encoded rows (``Contract.encode``) to probabilities: INPUT float [n, features] to OUTPUT float [n, 2]."""
    native: bytes
    """The model in the family's own format; no pickle."""
    facts: dict[str, Any]
    """Plain JSON without clock times; at least ``validation_log_loss``."""

    def to_bytes(self) -> bytes:
        """As it is kept until everything is written; no pickle."""
        files = {name: base64.b64encode(getattr(self, name)).decode() for name in ("onnx", "native")}
        return to_json({**files, "facts": self.facts})

    @classmethod
    def parse(cls, data: bytes) -> Fitted:
        """What ``to_bytes`` made."""
        read = json.loads(data)
        return cls(base64.b64decode(read["onnx"]), base64.b64decode(read["native"]), read["facts"])


class Family(Protocol):
    """A module of families/."""

    NATIVE: str
    """File name of its own format."""
    VERSION: str
    """Of the library behind it: a checkpoint of another version is not resumed from."""
    UNIT: str
    """What it calls a step."""

    def fit(self, source: Source, contract: Contract, settings: TrainParams, job: Job) -> Fitted:
        """Learn from ``source``; equal rows and settings give equal bytes, however often it was interrupted.

        Raises:
            Ended: the process was asked to end; the next one goes on from the checkpoint.
        """

    def predict(self, native: bytes, x: Matrix) -> Matrix:
        """P(positive) float32 [n] of encoded rows [n, features], by the family's own library."""
