"""The models that one process serves. A model that cannot be loaded, or whose store is away, leaves the others alone."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

from serving.live import Loader
from serving.log import PredictionLog
from serving.metrics import Families
from serving.service import Service
from serving.settings import Settings
from tasks import spec
from tasks.core.errors import ConfigError
from tasks.storage.artefacts import Store

log = logging.getLogger("uvicorn.error")

START_SECONDS = 20
"""Longest wait for the store before a replica listens all the same."""


class Hosting:
    """A service for each model.

    Args:
        store: the artefact store, whole.
        settings: of the process.
        code: the checkout, for settings that the store has no record of.
    """

    def __init__(self, store: Store, settings: Settings, code: Path) -> None:
        self.families = Families()
        self.services: dict[str, Service] = {}
        self.broken: dict[str, str] = {}
        """Models whose folder cannot be loaded, and why."""
        for name in chosen(settings):
            try:
                model = spec.load(name)
            except Exception as error:
                self.broken[name] = f"models/{name} cannot be loaded: {type(error).__name__}: {error}"
                log.exception("models/%s cannot be loaded; the other models are served", name)
                continue
            part = store.part(name)
            loader = Loader(model, part, code, settings.version.get(name))
            self.services[name] = Service(model, loader, PredictionLog(name, part), settings, self.families)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follow the store and write the logs until the block ends; then the logs are complete.

        The block begins when the store was read for every model, or START_SECONDS later: a replica that listens before that would
        answer 503 with a model live, and the next one would be restarted on the strength of it.
        """
        services = self.services.values()
        for service in services:
            service.start()
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.gather(*(service.looked.wait() for service in services)), START_SECONDS)
            yield
        finally:
            await asyncio.gather(*(service.stop() for service in services))


def chosen(settings: Settings) -> list[str]:
    """Names of the models to serve; ConfigError when one that is asked for has no folder."""
    there = spec.names()
    wanted = [name for part in settings.models.split(",") if (name := part.strip())]
    if unknown := [name for name in wanted if name not in there]:
        raise ConfigError(
            f"AIRLOOP_ONLINE_MODELS={settings.models!r} names {unknown[0]!r}, which has no folder in models/; there are "
            f"{', '.join(there) or 'none'}."
        )
    return wanted or there
