"""Waiting for what is away, until it answers, its time is over, or the work is superseded."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from tenacity import Retrying, retry_if_exception, wait_exponential

from tasks.online import AwayError, Check, NotServedError

AWAY_SECONDS = 180.0
"""How long a service, or the cluster's API, may be away before the job ends, to be tried again: a replica that restarts needs a minute,
a store or a node that is replaced some more."""
LONGEST_PAUSE_SECONDS = 5.0
"""Between two looks: also how long a rollback may wait for the deploy that it cuts short."""
T = TypeVar("T")


class Clock:
    """The time; tests have one that does not wait."""

    def now(self) -> float:
        """Seconds, from any origin."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


CLOCK = Clock()


def outlast(passes: Callable[[BaseException], bool], seconds: float, check: Check, call: Callable[[], T]) -> T:
    """Return what ``call`` does, repeated with growing pauses while it raises what passes.

    Args:
        passes: whether an error may be over later.
        seconds: how long; then the last error is raised.
        check: called before each try.
        call: the work, which may be done twice.
    """
    clock = CLOCK
    end = clock.now() + seconds

    def look() -> T:
        check()
        return call()

    trying = Retrying(
        retry=retry_if_exception(passes),
        stop=lambda _: clock.now() >= end,
        wait=wait_exponential(multiplier=0.5, max=LONGEST_PAUSE_SECONDS),
        sleep=clock.sleep,
        reraise=True,
    )
    return trying(look)


def certain(ask: Callable[[], T], patience: float, check: Check) -> T:
    """Return what ``ask`` does once nothing is away; another version counts only if it is answered for ``patience`` seconds.

    Raises:
        NotServedError: another version is answered for so long, or, at once, this one is wrong itself.
        AwayError: something was away for AWAY_SECONDS.
        SupersededError: what ``check`` raises.
    """

    def settled() -> T:
        return outlast(lambda error: type(error) is NotServedError, patience, check, ask)

    return outlast(lambda error: isinstance(error, AwayError), AWAY_SECONDS, check, settled)
