"""Which worker runs which tests when `make test` has several: a file stays whole, and whole stacks follow one another.

So the fixtures of a module are made once, as in one process. The stacks - Airflow, MLflow and the online service, with
their waits - go first, the longest file to one worker and the others one after another to a second, while a third does what
only computes.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil
import pytest
from xdist.scheduler import LoadFileScheduling

from local import processes

STACKS = ("tests/e2e/", "tests/local/test_stack.py", "tests/docker/test_images.py", "tests/docker/test_stack.py")
"""Where the tests marked e2e are. More than two Airflows at once would only wait for each other's processor."""
LONGEST = "tests/e2e/test_loop.py"
"""As long as all the other stacks and half of the rest."""


class Files(LoadFileScheduling):
    """xdist's distribution by file, in the order in which the tests were collected, all stacks but the longest as one file."""

    def __init__(self, config: pytest.Config, log: object = None) -> None:
        config.option.loadscopereorder = False  # the longest file is not the one with the most tests
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        stack = nodeid.startswith(STACKS) and not nodeid.startswith(LONGEST)
        return "stacks" if stack else super()._split_scope(nodeid)


def end_leftovers(folder: Path) -> int:
    """End the stacks whose homes lie in ``folder``, and say how many processes that were.

    A worker that is interrupted or crashes is gone before its fixtures could stop what they started.
    """
    left = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            home = process.environ().get(processes.MARK, "")
            if home and Path(home).is_relative_to(folder):
                left.append(process)
    processes.end(left)
    return len(left)


def longest_first(item: pytest.Item) -> int:
    """Sort key: what starts last should be short."""
    if item.nodeid.startswith(STACKS):
        return 0 if item.nodeid.startswith(LONGEST) else 1
    return 2 if item.get_closest_marker("slow") else 3
