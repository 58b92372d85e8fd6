"""Wait for what a test waits for, and not for a time: on a busy machine a fixed sleep is too short, and elsewhere too long."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


def until(probe: Callable[[], Found], what: str, seconds: float = 120, pause: float = 0.05) -> Found:
    """The first answer of ``probe`` that is true, asked every ``pause`` seconds.

    Args:
        probe: is called again and again.
        what: names what is waited for, in the failure.
        seconds: until the test fails; long, since it is paid only by a test that fails.
        pause: seconds between two calls.
    """
    deadline = time.monotonic() + seconds
    while not (found := probe()):
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain: {what}"
        time.sleep(pause)
    return found
