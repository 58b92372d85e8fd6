"""A clock that does not wait, for what waits for services."""

from __future__ import annotations

import pytest

from tasks.online import waits


class Clock(waits.Clock):
    """Its time goes on when somebody sleeps."""

    def __init__(self) -> None:
        self.at = 0.0

    def now(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += seconds


def install(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Have tasks/online/ wait by a clock that does not."""
    clock = Clock()
    monkeypatch.setattr(waits, "CLOCK", clock)
    return clock
