"""Errors that say what is wrong, where, and how to fix it, and the result documents and exit codes that carry them.

AirloopError
├── ConfigError     a setting is wrong
├── DataError       data is not what its manifest, schema or digest says
└── Unavailable     something is not there yet, or does not answer: a later try may succeed
Skip                nothing to do
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any

from tasks.core.full_disk import no_space
from tasks.core.results import Result, Status, write


class AirloopError(Exception):
    """A failure the reader can act on: its message is one or two plain sentences with the way out."""

    status = Status.REFUSED
    """How a command ends that raises it."""
    payload: Mapping[str, Any] = MappingProxyType({})
    """Facts for whoever started the command."""

    def result(self) -> Result:
        """The result of a command that raises it."""
        return Result(self.status, str(self), self.payload)


class ConfigError(AirloopError):
    """A setting in a file or in the environment is missing, unknown or out of range."""


class DataError(AirloopError):
    """Landed or derived data is not what its manifest, schema or digest says."""


class Unavailable(AirloopError):  # noqa: N818 - it is a state that passes, and its subclasses say which
    """Something the work needs is not there yet or does not answer; nothing is wrong with the work itself."""

    status = Status.WAITING


class Skip(Exception):  # noqa: N818 - it is an outcome, not an error
    """Nothing to do; the message says why."""


def warn(text: str) -> None:
    """Say on stderr what went wrong and does not matter to the result."""
    print(f"warning: {text}", file=sys.stderr, flush=True)


def run_main(main: Callable[[], None]) -> None:
    """Run a command's ``main``; end the process with the exit code and the result document of what it raises.

    Errors that are not ours keep their traceback: they are bugs, and hiding them helps nobody.
    """
    try:
        main()
    except Skip as skip:
        print(f"skipped: {skip}", flush=True)
        _end(Result(Status.SKIPPED, str(skip)))
    except AirloopError as error:
        _say(error)
        _end(error.result())
    except Exception as error:
        if (sentence := no_space(error)) is None:
            raise
        _say(full := Unavailable(sentence))
        _end(full.result())


def _say(error: AirloopError) -> None:
    print(f"{'waiting' if error.status is Status.WAITING else 'error'}: {error}", file=sys.stderr, flush=True)


def _end(result: Result) -> None:
    with suppress(OSError):  # on a full disk: then the exit code is all there is, and it is tried again
        write(result)
    sys.exit(result.exit_code)
