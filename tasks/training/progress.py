"""How a training gets on: one line every few seconds, so that a log shows a long one to be alive."""

from __future__ import annotations

import time


class Progress:
    """Says how far a training is.

    Args:
        family: what trains.
        unit: what a step is: "round", "step".
        seconds: between two lines.
    """

    def __init__(self, family: str, unit: str = "step", seconds: float = 3.0) -> None:
        self._family, self._unit, self._seconds = family, unit, seconds
        self._begun = self._said = time.monotonic()
        self._first: int | None = None
        self._samples = 0

    def step(self, step: int, of: int, samples: int, losses: dict[str, float]) -> None:
        """Step ``step`` of at most ``of`` is done; it took ``samples`` rows and has these losses."""
        now = time.monotonic()
        if self._first is None:
            self._first = step - 1
        self._samples += samples
        if now - self._said < self._seconds:
            return
        self._said = now
        seconds = now - self._begun
        rate = (step - self._first) / seconds
        values = ", ".join(f"{name} {value:.5f}" for name, value in losses.items())
        print(
            f"train: {self._family} {self._unit} {step} of at most {of}, {values}, {self._samples / seconds:,.0f} rows/s, "
            f"at most {(of - step) / rate:.0f} s left",
            flush=True,
        )
