"""The training loop. A position - steps done - determines all that follows: rows, dropout, learning rate, and when to stop.

A step takes its rows in micro-batches, numbered over all processes, and divides by the rows of the whole step: who computes
which does not matter but for the order of sums. Nothing is drawn from a generator that runs on from step to step, so a
checkpoint holds no random state: dropout is seeded again by (seed, step, micro-batch), rows by (seed, epoch).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from tasks.modelling.model import Contract
from tasks.settings.training_params import MlpParams
from tasks.training.ending import Ended
from tasks.training.family import Job
from tasks.training.neural.group import Group
from tasks.training.neural.network import Network, pack, unpack
from tasks.training.neural.parallel import Parallel, Tensors
from tasks.training.neural.rows import Epoch, Rows, encoded
from tasks.training.source import Source

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SCORED = 8192
"""Rows that a process scores at a time; part of the result's identity, since losses are summed by them."""
HOTTEST, COLDEST = 0.1, 10.0
"""Bounds of the inverse temperature: a network that needs more has learned nothing."""


@dataclass
class Course:
    """How far a training is, in plain JSON."""

    step: int = 0
    """Steps done."""
    losses: list[float] = field(default_factory=list)
    """Mean training loss of each finished epoch."""
    validation: list[float] = field(default_factory=list)
    """Log loss on the validation days after each."""
    total: float = 0.0
    """Sum of the losses of the unfinished epoch's rows."""

    @property
    def best(self) -> int:
        """The epoch with the lowest validation loss."""
        return int(np.argmin(self.validation))

    def exhausted(self, patience: int) -> bool:
        """Whether the last ``patience`` epochs were no better than the best before them."""
        return bool(self.validation) and len(self.validation) - 1 - self.best >= patience


class Trainer:
    """One training of one network.

    Args:
        network: as it begins, equal in every process.
        source: of the rows.
        contract: how they are encoded.
        settings: of the family.
        seed: of everything random.
        job: what surrounds the training.
        group: the processes.
    """

    def __init__(
        self,
        network: Network,
        source: Source,
        contract: Contract,
        settings: MlpParams,
        seed: int,
        job: Job,
        group: Group,
    ) -> None:
        self._source, self._contract, self._settings, self._seed = source, contract, settings, seed
        self._job, self._group = job, group
        self._parallel = Parallel(network, group, settings.parallel, compiled=settings.compile)
        self._rows = Rows(source, contract, seed, settings.window)
        self._batch = settings.device_batch * group.world * settings.accumulation
        self._epoch_steps = math.ceil(len(self._rows) / self._batch)
        self._optimiser = torch.optim.AdamW(
            self._parallel.module.parameters(),
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self._scaler = torch.amp.GradScaler(group.device.type, enabled=settings.precision == "fp16")
        self._course = Course()
        self._best: Tensors = {}

    def run(self) -> tuple[Course, Tensors]:
        """Train from the newest checkpoint on; the weights of the best epoch, in the first process.

        Raises:
            Ended: the process, or one of the others, was asked to end.
        """
        self._resume()
        try:
            while not self._done():
                epoch = self._rows.epoch(len(self._course.validation))
                while self._course.step < (len(self._course.validation) + 1) * self._epoch_steps:
                    self._step(epoch)
                self._finish_epoch()
        finally:
            self._rows.close()
        return self._course, self._best

    def logits(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """This process's share of the validation days: logits and labels, float32 on the CPU."""
        module, group = self._parallel.module, self._group
        module.eval()
        with torch.inference_mode():
            for batch in self._source.batches("validation"):
                x, y = encoded(batch, self._contract)
                # Every process goes through the same number of passes: in a sharded network a pass is everybody's.
                for start in range(0, len(x), SCORED * group.world):
                    own = slice(start + group.rank * SCORED, start + (group.rank + 1) * SCORED)
                    found = module(torch.from_numpy(x[own]).to(group.device))
                    yield found.float().squeeze(1).cpu(), torch.from_numpy(y[own])
        module.train()

    def load(self, weights: Tensors) -> None:
        """Score with ``weights``, which the first process has, from here on."""
        packed = self._group.share(pack(weights, None) if self._group.first else None)
        assert packed is not None
        self._parallel.load_weights(unpack(packed)[0])

    def _done(self) -> bool:
        known, settings = self._course, self._settings
        return len(known.validation) >= settings.epochs or known.exhausted(settings.early_stopping_epochs)

    def _step(self, epoch: Epoch) -> None:
        """Take one step; Ended, with a checkpoint, where somebody was asked to end meanwhile."""
        course, job = self._course, self._job
        loss, rows = self._learn(epoch, course.step - len(course.validation) * self._epoch_steps)
        course.step += 1
        due = self._group.first and job.checkpoints.due(course.step)
        # One sum for all: every process must come to the same answers after the same step.
        total, asked, keep = self._group.sum([loss, job.ending.asked, due])
        course.total += total
        if self._group.first:
            steps = self._settings.epochs * self._epoch_steps
            known = {"validation log loss": course.validation[-1]} if course.validation else {}
            job.progress.step(
                course.step, steps, rows, {"loss": total / rows, **known}, epoch=course.step / self._epoch_steps
            )
        if asked or keep:
            self._save()
        if asked:
            job.checkpoints.flush()
            self._group.sum([0.0])  # nobody goes before the first has written
            raise Ended

    def _learn(self, epoch: Epoch, step: int) -> tuple[float, int]:
        """The sum of this process's losses, and the rows of all."""
        settings, group = self._settings, self._group
        start = step * self._batch
        rows = min(self._batch, len(epoch) - start)
        total = torch.zeros((), device=group.device)
        for number in range(settings.accumulation):
            micro = number * group.world + group.rank
            at = start + micro * settings.device_batch
            x, y = epoch.take(at, at + settings.device_batch)
            torch.manual_seed(self._dropout_seed(micro))
            with (
                self._parallel.accumulating(more=number + 1 < settings.accumulation),
                torch.autocast(group.device.type, TYPES[settings.precision], enabled=settings.precision != "fp32"),
            ):
                logits = self._parallel.forward(torch.from_numpy(x).to(group.device, non_blocking=True)).squeeze(1)
                labels = torch.from_numpy(y).to(group.device, non_blocking=True)
                loss = binary_cross_entropy_with_logits(logits.float(), labels, reduction="sum")
                # DDP and FSDP take the mean over the processes: times their number it is the sum.
                self._scaler.scale(loss * (group.world / rows)).backward()
            total += loss.detach()
        self._update()
        return float(total), rows

    def _update(self) -> None:
        settings = self._settings
        rate = settings.learning_rate * schedule(
            self._course.step, settings.warmup_steps, settings.epochs * self._epoch_steps
        )
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._scaler.unscale_(self._optimiser)
        torch.nn.utils.clip_grad_norm_(self._parallel.module.parameters(), settings.clip_norm)
        self._scaler.step(self._optimiser)
        self._scaler.update()
        self._optimiser.zero_grad(set_to_none=True)

    def _dropout_seed(self, micro: int) -> int:
        key = [part % 2**64 for part in (self._seed, self._course.step, micro)]
        return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])

    def _finish_epoch(self) -> None:
        course = self._course
        sums = np.zeros(2)
        for logits, labels in self.logits():
            sums += [
                float(binary_cross_entropy_with_logits(logits.double(), labels.double(), reduction="sum")),
                len(labels),
            ]
        loss, rows = self._group.sum(sums.tolist())
        course.losses.append(course.total / len(self._rows))
        course.validation.append(loss / rows)
        course.total = 0.0
        if course.best == len(course.validation) - 1:
            self._best = self._parallel.weights()

    def _save(self) -> None:
        """Have a checkpoint written: a copy is taken here, its bytes are made and kept by another thread."""
        weights, moments = self._parallel.weights(), self._parallel.moments(self._optimiser)
        if not self._group.first:
            return
        parts = {"weights": weights, "moments": moments, "best": self._best}
        tensors = {f"{part}/{name}": value for part, of in parts.items() for name, value in of.items()}
        facts = {"course": asdict(self._course), "scaler": self._scaler.state_dict(), "batch": self._batch}
        self._job.checkpoints.put(self._course.step, ".safetensors", lambda: pack(tensors, facts))

    def _resume(self) -> None:
        kept = self._job.checkpoints.latest() if self._group.first else None
        content = self._group.share(kept.content if kept else None)
        if content is None:
            return
        tensors, facts = unpack(content)
        if facts["batch"] != self._batch:
            if self._group.first:
                print(
                    f"train: the checkpoint is of {facts['batch']} rows a step, not {self._batch}; begun again",
                    flush=True,
                )
                self._job.checkpoints.clear()  # or theirs, of later positions, would be kept in favour of the new ones
            return
        parts: dict[str, Tensors] = {"weights": {}, "moments": {}, "best": {}}
        for key, value in tensors.items():
            part, _, name = key.partition("/")
            parts[part][name] = value
        self._parallel.load_weights(parts["weights"])
        self._parallel.load_moments(self._optimiser, parts["moments"])
        self._best, self._course = parts["best"], Course(**facts["course"])
        self._scaler.load_state_dict(facts["scaler"])


def schedule(step: int, warmup: int, steps: int) -> float:
    """Share of the learning rate at ``step`` of ``steps``: a line up, then half a cosine down."""
    return min(1.0, (step + 1) / warmup) * 0.5 * (1.0 + math.cos(math.pi * step / steps))


def calibrate(trainer: Trainer, group: Group, rounds: int = 30) -> tuple[float, float]:
    """The inverse temperature with the lowest log loss on the validation days, by Newton's method, and that loss."""
    inverse = 1.0
    for _ in range(rounds):
        slope, curve = 0.0, 0.0
        for logits, labels in trainer.logits():
            z, y = logits.double(), labels.double()
            p = torch.sigmoid(z * inverse)
            slope += float(((p - y) * z).sum())
            curve += float((p * (1 - p) * z * z).sum())
        slope, curve = group.sum([slope, curve])
        before = inverse
        inverse = float(
            np.clip(inverse - slope / max(curve, 1e-12), max(inverse / 2, HOTTEST), min(inverse * 2, COLDEST))
        )
        if abs(inverse - before) < 1e-6 * before:
            break
    inverse = float(np.float32(inverse))
    total, rows = 0.0, 0
    for logits, labels in trainer.logits():
        total += float(binary_cross_entropy_with_logits(logits.double() * inverse, labels.double(), reduction="sum"))
        rows += len(labels)
    total, count = group.sum([total, rows])
    return inverse, total / count


def facts(course: Course, network: Network, inverse: float, loss: float) -> dict[str, Any]:
    """What metrics.json says of the training."""
    return {
        "epochs": course.best + 1,
        "steps": course.step,
        "parameters": sum(p.numel() for p in network.parameters()),
        "temperature": 1.0 / inverse,
        "train_losses": course.losses,
        "validation_losses": course.validation,
        "validation_log_loss": loss,
    }
