"""Errors that say what is wrong, where, and how to fix it, and the exit codes that carry them to a scheduler."""

from __future__ import annotations

import sys
from collections.abc import Callable

EXIT_FAILED = 1
EXIT_SKIP = 99
"""A stage that finds nothing to do exits with this; Airflow shows the task as skipped and fires nothing downstream."""


class AirloopError(Exception):
    """A failure the reader can act on: its message is one or two plain sentences with the way out."""


class ConfigError(AirloopError):
    """A setting in params.yaml or the environment is missing, unknown or out of range."""


class DataError(AirloopError):
    """Landed or derived data is not what its manifest, schema or digest says."""


class Skip(Exception):  # noqa: N818 - it is an outcome, not an error
    """Nothing to do; the message says why."""


def warn(text: str) -> None:
    """Say on stderr what went wrong and does not matter to the result."""
    print(f"warning: {text}", file=sys.stderr, flush=True)


def run_main(main: Callable[[], None]) -> None:
    """Run a stage's ``main`` and end the process: 0 done, 99 skipped, 1 with one sentence on stderr.

    Errors that are not ours keep their traceback: they are bugs, and hiding them helps nobody.
    """
    try:
        main()
    except Skip as skip:
        print(f"skipped: {skip}", flush=True)
        sys.exit(EXIT_SKIP)
    except AirloopError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(EXIT_FAILED)
