"""How a training gets on: one line every few seconds, so that a log shows a long one to be alive, and MLflow for curves.

Training only says ``step``, which notes it; all else is another thread's work.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from tasks.training.tracking import Tracker

CLOSING = 15.0
"""Seconds that the end of a training waits for its last numbers to be taken; one second where MLflow is well."""


@dataclass(frozen=True)
class _Seen:
    """The newest step."""

    step: int
    of: int
    samples: int
    """Of all steps of this process."""
    losses: Mapping[str, float]
    epoch: float | None
    at: float


class Progress:
    """Says how far a training is, while it is entered.

    Args:
        family: what trains.
        unit: what a step is: "round", "step".
        seconds: between two lines.
        gpu: whether it trains on one, whose use is then shown too.
        tracker: of the training in MLflow.
    """

    def __init__(
        self,
        family: str,
        unit: str = "step",
        seconds: float = 3.0,
        *,
        gpu: bool = False,
        tracker: Tracker | None = None,
    ) -> None:
        self._family, self._unit, self._seconds, self._gpu, self._tracker = family, unit, seconds, gpu, tracker
        self._first: _Seen | None = None
        self._seen: _Seen | None = None
        self._said: _Seen | None = None
        self._samples = 0
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._status = "FINISHED"

    def step(self, step: int, of: int, samples: int, losses: Mapping[str, float], epoch: float | None = None) -> None:
        """Step ``step`` of at most ``of`` is done, after ``epoch`` epochs; it took ``samples`` rows and has these losses."""
        if self._seen is None:
            self._first = self._said = _Seen(step - 1, of, 0, {}, None, time.monotonic())
            whence = f"goes on after {self._unit} {step - 1}" if step > 1 else "begins"
            print(f"train: {self._family} {whence}", flush=True)
        self._samples += samples
        self._seen = _Seen(step, of, self._samples, losses, epoch, time.monotonic())
        if self._tracker is not None:
            self._tracker.note(step, of, losses if epoch is None else {**losses, "epoch": epoch})

    def handed_over(self) -> dict[str, Any]:
        """For ``taken_over`` in the process that trains instead of this one, in plain JSON."""
        tracker, self._tracker = self._tracker, None
        where = None if tracker is None else tracker.place
        return {
            "family": self._family,
            "unit": self._unit,
            "seconds": self._seconds,
            "gpu": self._gpu,
            "tracker": where,
        }

    @classmethod
    def taken_over(cls, place: dict[str, Any]) -> Progress:
        """The progress that another process handed over."""
        tracker = None if place["tracker"] is None else Tracker(**place["tracker"])
        return cls(**{**place, "tracker": tracker})

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._tell, name="progress", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._status = "KILLED" if issubclass(kind, SystemExit | KeyboardInterrupt) else "FAILED"
        self._over.set()
        if self._thread is not None:
            self._thread.join(CLOSING if kind is None else CLOSING / 3)  # who was asked to end has no time

    def _tell(self) -> None:
        while not self._over.wait(self._seconds):
            self._say()
        if self._tracker is not None:
            self._tracker.close(self._status)

    def _say(self) -> None:
        """One line about the time since the last."""
        now, before, first = self._seen, self._said, self._first
        if now is None or before is None or first is None or now.step == before.step:
            return
        self._said = now
        rate = (now.samples - before.samples) / (now.at - before.at)
        left = (now.of - now.step) * (now.at - first.at) / (now.step - first.step)
        gpu = gpu_use() if self._gpu else {}
        words = [
            f"train: {self._family} {self._unit} {now.step} of at most {now.of}",
            *([f"epoch {now.epoch:.2f}"] if now.epoch is not None else []),
            *(f"{name} {value:.5f}" for name, value in now.losses.items()),
            f"{rate:,.0f} rows/s",
            *([f"GPU {gpu['gpu_use']:.0f}%, {gpu['gpu_memory_mib'] / 1024:.1f} GiB"] if gpu else []),
            f"at most {left:.0f} s left",
        ]
        print(", ".join(words), flush=True)
        if self._tracker is not None:
            self._tracker.note(now.step, now.step, {"samples_per_s": rate, "eta_s": left, **gpu})
            self._tracker.send()


def gpu_use() -> dict[str, float]:
    """``gpu_use``, the mean over this machine's GPUs in %, and ``gpu_memory_mib``, their sum; empty where nobody can say."""
    asked = ["nvidia-smi", "--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader,nounits"]
    with suppress(OSError, subprocess.SubprocessError, ValueError):
        said = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=5).stdout
        rows = [[float(cell) for cell in line.split(",")] for line in said.splitlines() if line.strip()]
        if rows:
            return {"gpu_use": sum(row[0] for row in rows) / len(rows), "gpu_memory_mib": sum(row[1] for row in rows)}
    return {}
