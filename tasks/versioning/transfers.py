"""Transfers that DVC gave up (it logs each one's reason and goes on, as if the file were in the cache), and remotes away."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from dvc.exceptions import DvcException

from tasks.core.errors import Unavailable
from tasks.core.full_disk import no_space

_LOG = "dvc_data.hashfile.transfer"


class _Failures(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep what the record is about."""
        if record.exc_info and record.exc_info[1] is not None:
            self.found.append(record.exc_info[1])


@contextmanager
def complete(what: str) -> Iterator[None]:
    """Raise Unavailable when a file did not get to where the block puts it; ``what`` is what the files are of."""
    failures, log = _Failures(), logging.getLogger(_LOG)
    log.addHandler(failures)
    try:
        yield
    except (DvcException, OSError):
        if not failures.found:
            raise
    finally:
        log.removeHandler(failures)
    if failures.found:
        first = failures.found[0]
        raise Unavailable(
            f"{what}: {no_space(first) or f'{len(failures.found)} file(s) could not be put to DVC ({first}); try again.'}"
        ) from None


@contextmanager
def reached(remote: str) -> Iterator[None]:
    """Raise Unavailable when the remote at ``remote`` does not answer what the block asks."""
    try:
        yield
    except (DvcException, OSError) as error:  # fsspec's errors of object stores are OSErrors
        raise Unavailable(f"The DVC remote at {remote} does not answer ({error}); try again.") from None
