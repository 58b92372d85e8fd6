"""The service's moving parts: what is live, the prediction log, and the two background tasks that keep them right."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from serving.live import Live, Loader, Prediction, predict
from serving.log import PredictionLog
from serving.metrics import Families, Metrics
from serving.settings import Settings
from tasks import online
from tasks.core.instants import iso
from tasks.spec import ModelSpec, Request

log = logging.getLogger("uvicorn.error")
T = TypeVar("T")

INLINE_ROWS = 32
"""More rows than this are predicted in a thread, so that other requests need not wait for them."""

TERMINATION_LOG = Path("/dev/termination-log")
"""Where Kubernetes reads why a container ended."""


class Service:
    """Everything behind the endpoints of one model.

    Args:
        spec: the model.
        loader: brings what is live into memory.
        prediction_log: keeps what was predicted.
        settings: of the process.
        families: the metrics of the process.
    """

    def __init__(
        self, spec: ModelSpec, loader: Loader, prediction_log: PredictionLog, settings: Settings, families: Families
    ) -> None:
        self.spec = spec
        self.live = Live()
        """Read once a request; replaced, never changed."""
        self.settings = settings
        self.log = prediction_log
        self.metrics = Metrics(families, spec.name, lambda: self.log.waiting, lambda: self.log.lost)
        self.looked = asyncio.Event()
        """Set once the store was read, or was tried to be."""
        self._loader = loader
        self._syncing = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        # Threads of its own: one model's store that hangs, or its large requests, keep no other model waiting for a thread.
        self._store_threads = ThreadPoolExecutor(2, f"{spec.name}-store")
        self._row_threads = ThreadPoolExecutor(2, f"{spec.name}-rows")

    async def sync(self) -> Live:
        """Agree with the store now; returns what is live."""
        async with self._syncing:
            old = self.live
            new = await self._in(self._store_threads, self._loader.load, old)
            self.live = new
            if (new.model, new.state) != (old.model, old.state):
                # A state is a hundred thousand objects that live until the next: no use walking them on every collection.
                gc.freeze()
            self.metrics.show(old, new)
        _log_changes(self.spec.name, old, new)
        return new

    def start(self) -> None:
        """Begin to follow the store and to write the log."""
        self._tasks = [asyncio.create_task(self._follow()), asyncio.create_task(self._write_log())]

    async def stop(self) -> None:
        """End both; afterwards the log is complete."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._flush()
        for threads in (self._store_threads, self._row_threads):
            threads.shutdown(wait=False)

    async def _in(self, threads: ThreadPoolExecutor, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(threads, work, *arguments)

    async def answer(self, requests: list[Request], live: Live) -> list[dict[str, Any]]:
        """Predict with ``live``, log, and say it as JSON would."""
        if len(requests) <= INLINE_ROWS:
            return self._answer(requests, live)
        return await self._in(self._row_threads, self._answer, requests, live)

    def _answer(self, requests: list[Request], live: Live) -> list[dict[str, Any]]:
        predictions = predict(live, [request.to_entity() for request in requests])
        ids = self.log.add(requests, predictions, live)
        degraded = sum(1 for p in predictions if p.known.reasons)
        if degraded:
            self.metrics.degraded.inc(degraded)
        if degraded < len(predictions):
            self.metrics.plain.inc(len(predictions) - degraded)
        return [_say(name, p, live, self.spec.online.answer) for name, p in zip(ids, predictions, strict=True)]

    async def _follow(self) -> None:
        while True:
            try:
                live = await self.sync()
                if self.spec.name in self.settings.version and live.refused and not live.model:
                    end_process(f"{self.spec.name}: {live.reason}")
            except Exception:  # a bug must not end the task that would load its fix
                log.exception("%s: looking for a new model or interval failed", self.spec.name)
            self.looked.set()
            await asyncio.sleep(self.settings.poll_seconds)

    async def _write_log(self) -> None:
        while True:
            await asyncio.sleep(self.settings.flush_seconds)
            await self._flush()

    async def _flush(self) -> None:
        try:
            await asyncio.shield(self._in(self._store_threads, self.log.flush))
        except Exception:
            self.metrics.log_errors.inc()
            log.exception("%s: the prediction log cannot be written, %d lines wait", self.spec.name, self.log.waiting)


def end_process(reason: str) -> NoReturn:
    """End this replica, which can never answer, so that the rollout it is part of fails at once and says why."""
    log.error("this replica ends: %s", reason)
    with contextlib.suppress(OSError):  # outside Kubernetes there is no such file
        if TERMINATION_LOG.exists():
            TERMINATION_LOG.write_text(reason, encoding="utf-8")
    os._exit(online.REFUSED)  # nothing was answered, so nothing is lost


def _say(name: str, prediction: Prediction, live: Live, answer: str) -> dict[str, Any]:
    assert live.model is not None
    assert live.state is not None
    known = prediction.known
    return {
        "prediction_id": name,
        answer: prediction.probability,
        "model_version": live.model.version,
        "model": live.model.model.sha256,
        "as_of": iso(known.as_of),
        "state": state_of(live, known.as_of),
        "degraded": bool(known.reasons),
        "reasons": known.reasons,
    }


def state_of(live: Live, at: int | None = None) -> dict[str, Any] | None:
    """The state in words: its digest, intervals, last event, and how far ``at`` lies beyond that (now, by default)."""
    if live.state is None:
        return None
    last = live.state.state.as_of
    return {
        "as_of": None if last is None else iso(last),
        "age_seconds": None if last is None else max(0, (int(time.time()) if at is None else at) - last),
        "intervals": live.state.state.intervals,
        "digest": live.state.digest,
    }


def _log_changes(name: str, old: Live, new: Live) -> None:
    if new.model is not old.model:
        live = f"v{new.model.version} {new.model.model.sha256[:12]}" if new.model else new.reason
        log.info("%s: live model: %s", name, live)
    if new.state is not old.state and new.state:
        log.info("%s: state: %s", name, ", ".join(new.state.state.intervals) or "no interval has landed")
    for what, problem in new.problems.items():
        if old.problems.get(what) != problem:
            log.error("%s: %s", name, problem)
