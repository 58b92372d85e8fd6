"""Waits in Airflow's triggerer until an interval has landed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airloop.waiting import has_landed, is_stalled

POLL_SECONDS = 5.0


class LandedTrigger(BaseTrigger):
    """Fires when ``interval`` has landed, when it is stalled, or at ``until``.

    Args:
        model: whose interval it is.
        interval: the interval's key.
        until: epoch seconds.
    """

    def __init__(self, model: str, interval: str, until: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # BaseTrigger has no types
        self.model, self.interval, self.until = model, interval, until

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """How the triggerer makes it again."""
        arguments = {"model": self.model, "interval": self.interval, "until": self.until}
        return "airloop.landed_trigger.LandedTrigger", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look at the store now and then."""
        while (reason := await asyncio.to_thread(self._look)) is None:  # noqa: ASYNC110 - a store sets no event
            await asyncio.sleep(POLL_SECONDS)
        yield TriggerEvent({"interval": self.interval, "landed": not reason, "reason": reason})  # type: ignore[no-untyped-call] # nor has TriggerEvent

    def _look(self) -> str | None:
        """Empty when it has landed; why the wait is over; or None while it goes on."""
        if has_landed(self.model, self.interval):
            return ""
        if is_stalled(self.model, self.interval):
            return "its own run failed, or ended while it waited itself"
        return "the time to wait for it (AIRLOOP_WAIT_MINUTES) is over" if time.time() >= self.until else None
