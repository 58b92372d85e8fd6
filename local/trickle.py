"""A steady trickle of online requests, as clients would send them, that counts what went wrong."""

from __future__ import annotations

import io
import random
import threading
from dataclasses import dataclass, field
from typing import Any

import httpx
import pyarrow.parquet as pq

from tasks import spec
from tasks.core import web
from tasks.core.errors import AirloopError
from tasks.landing import landed_index
from tasks.storage.artefacts import Store


@dataclass
class Trickle:
    """Asks for one landed row, as if it came some weeks later, every ``pause`` seconds until stopped."""

    url: str
    store: Store
    pause: float = 0.5
    requests: int = 0
    failed: int = 0
    degraded: int = 0
    last_error: str = ""
    last_prediction: str = ""
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """Whether it has been started."""
        return self._thread is not None

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="trickle", daemon=True)
        self._thread.start()

    def stop(self) -> dict[str, Any]:
        """End; returns how many were asked, how many failed and the last reason, how many were answered without all features."""
        self._stop.set()
        if self._thread:
            self._thread.join()
        return {
            "requests": self.requests,
            "failed": self.failed,
            "degraded": self.degraded,
            "last_error": self.last_error,
            "last_prediction": self.last_prediction,
        }

    def _run(self) -> None:
        pick = random.Random(7)  # noqa: S311 - which rows to ask for is no secret
        rows: list[dict[str, Any]] = []
        newest: landed_index.Item | None = None
        with web.client(self.url, seconds=10) as client:
            while not self._stop.wait(self.pause):
                try:
                    if (latest := self._newest()) != newest:
                        newest, rows = latest, self._rows(latest)
                except (AirloopError, OSError, ValueError) as error:
                    self._fail(error)  # a trickle that stopped unseen would report that nothing failed
                    continue
                if rows:
                    self._ask(client, pick.choice(rows))

    def _newest(self) -> landed_index.Item | None:
        return next(iter(landed_index.read(self.store).last(1)), None)

    def _rows(self, interval: landed_index.Item | None) -> list[dict[str, Any]]:
        """What can be asked for: the rows of a landed interval."""
        if interval is None:
            return []
        model = spec.current()
        data = self.store.read(interval.state[model.rows].name)
        return list(pq.read_table(io.BytesIO(data), columns=list(model.asked)).to_pylist())

    def _ask(self, client: httpx.Client, row: dict[str, Any]) -> None:
        body = spec.example().ask_later(row)
        self.requests += 1
        try:
            answer = client.post(f"/models/{spec.current().name}/predict", json=body)
            answer.raise_for_status()
            prediction = answer.json()["predictions"][0]
            self.degraded += bool(prediction["degraded"])
            self.last_prediction = prediction["prediction_id"]
        except (httpx.HTTPError, KeyError, ValueError) as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self.failed += 1
        self.last_error = f"{type(error).__name__}: {error}"
