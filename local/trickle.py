"""A steady trickle of online requests, as travellers would send them, that counts what went wrong."""

from __future__ import annotations

import io
import random
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
import pyarrow.parquet as pq

from tasks.common import landed
from tasks.common.artefacts import Store
from tasks.common.errors import AirloopError

COLUMNS = ["carrier", "flight", "origin", "dest", "scheduled_at"]
MONTH_SECONDS = 28 * 86400
"""Flights are asked for four weeks on: the same days of the week in a month that has not landed."""


@dataclass
class Trickle:
    """Asks for one landed flight, four weeks later, every ``pause`` seconds until stopped."""

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
        pick = random.Random(7)  # noqa: S311 - which flights to ask for is no secret
        flights: list[dict[str, Any]] = []
        newest = ""
        with httpx.Client(base_url=self.url, timeout=10) as client:
            while not self._stop.wait(self.pause):
                try:
                    if (latest := self._newest()) != newest:
                        newest, flights = latest, self._flights(latest)
                except (AirloopError, OSError, ValueError) as error:
                    self._fail(error)  # a trickle that stopped unseen would report that nothing failed
                    continue
                if flights:
                    self._ask(client, pick.choice(flights))

    def _newest(self) -> str:
        return max(landed.read_all(self.store), default="")

    def _flights(self, month: str) -> list[dict[str, Any]]:
        """What can be asked for: the flights of a landed month."""
        record = landed.read(self.store, month)
        if record is None:
            return []
        data = self.store.read(record.state["flights"].name)
        return list(pq.read_table(io.BytesIO(data), columns=COLUMNS).to_pylist())

    def _ask(self, client: httpx.Client, flight: dict[str, Any]) -> None:
        body = {
            "carrier": flight["carrier"],
            "flight": flight["flight"],
            "origin": flight["origin"],
            "destination": flight["dest"],
            "scheduled_time": datetime.fromtimestamp(flight["scheduled_at"] + MONTH_SECONDS, UTC).isoformat(),
        }
        self.requests += 1
        try:
            answer = client.post("/predict", json=body)
            answer.raise_for_status()
            prediction = answer.json()["predictions"][0]
            self.degraded += bool(prediction["degraded"])
            self.last_prediction = prediction["prediction_id"]
        except (httpx.HTTPError, KeyError, ValueError) as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self.failed += 1
        self.last_error = f"{type(error).__name__}: {error}"
