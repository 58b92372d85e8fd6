"""SIGTERM, as an eviction or a stopped task sends it: taken note of, and acted on where training can stop."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Self


class Ended(SystemExit):
    """The process ends as it was asked to, with 143, as a signal would have ended it."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


class Ending:
    """While it is entered, SIGTERM only sets ``asked``."""

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> Self:
        # Signals reach the main thread only, and tests may train in another.
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._before)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True
