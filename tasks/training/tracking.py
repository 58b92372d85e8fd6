"""A training's run in MLflow, live; by MLflow's REST API, since its client costs 2 CPU-seconds of importing.

A training has one run, however often it was interrupted: its tag ``airloop.training`` is the training's identity. What a killed
process had sent already, the one that goes on from an earlier checkpoint does not send again.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

import httpx

from tasks.core.errors import warn
from tasks.registry.mlflow_server import PROGRESS, TRAINING, Server, experiment_name

POINTS = 2000
"""Points of a curve, evenly over the largest number of steps."""
QUEUE = 20_000
"""Numbers that wait while MLflow is away; older ones are then dropped."""
BATCH = 1000
"""Metrics that MLflow takes in one request."""
AGAIN = 30.0
"""Seconds after which an MLflow that did not answer is tried again."""


class Tracker:
    """Keeps numbers, and sends them when asked; one thread may note while another sends.

    Args:
        uri: of the tracking server.
        training: identity of the training.
        name: of the run, for people.
        tags: further tags of the run.
        params: its settings.
    """

    def __init__(self, uri: str, training: str, name: str, tags: Mapping[str, str], params: Mapping[str, Any]) -> None:
        self.place = {"uri": uri, "training": training, "name": name, "tags": dict(tags), "params": dict(params)}
        """What makes it, in plain JSON."""
        self._uri, self._training, self._name = uri, training, name
        self._tags, self._params = {**tags, TRAINING: training}, params
        self._points: deque[dict[str, Any]] = deque(maxlen=QUEUE)
        self._server: Server | None = None
        self._run_id = ""
        self._logged = -1
        self._not_before = 0.0
        self._failed = False

    def note(self, step: int, of: int, values: Mapping[str, float]) -> None:
        """Keep the values of ``step``, if it is one of the curve's points."""
        if step % max(1, of // POINTS) and step != of:
            return
        now = int(time.time() * 1000)
        self._points.extend(
            {"key": name.replace(" ", "_"), "value": value, "timestamp": now, "step": step}
            for name, value in values.items()
            if math.isfinite(value)  # JSON has no other numbers
        )

    def send(self) -> None:
        """Send what was noted; an MLflow that is away is said once, and tried again now and then."""
        if time.monotonic() < self._not_before or not self._points:
            return
        batch: list[dict[str, Any]] = []
        try:
            server = self._server or self._open()
            while self._points:
                batch = [self._points.popleft() for _ in range(min(BATCH, len(self._points)))]
                if new := [point for point in batch if point["step"] > self._logged]:
                    server.post("runs/log-batch", {"run_id": self._run_id, "metrics": new})
            self._failed = False
        except (httpx.HTTPError, KeyError, ValueError) as error:
            self._points.extendleft(reversed(batch))
            self._fail(error)

    def close(self, status: str) -> None:
        """Send the rest, and say how the training ended: FINISHED, KILLED, FAILED."""
        if not self._failed:
            self.send()
        try:
            if not self._failed:
                self._update(self._server or self._open(), status)
        except (httpx.HTTPError, KeyError, ValueError) as error:
            self._fail(error)
        if self._points:
            warn(f"MLflow at {self._uri} did not take {len(self._points)} numbers of this training")

    def _fail(self, error: Exception) -> None:
        if not self._not_before:
            warn(f"MLflow at {self._uri} takes no progress ({error or type(error).__name__}); training goes on without")
        self._failed, self._not_before = True, time.monotonic() + AGAIN

    def _open(self) -> Server:
        """Find the training's run, or make it."""
        server = Server.reached(self._uri)
        experiment = server.experiment(experiment_name(PROGRESS))
        wanted = {"experiment_ids": [experiment], "filter": f"tags.`{TRAINING}` = '{self._training}'", "max_results": 1}
        if found := server.post("runs/search", wanted).get("runs"):
            self._run_id = found[0]["info"]["run_id"]
            self._logged = max((int(m["step"]) for m in found[0]["data"].get("metrics", [])), default=-1)
            self._update(server, "RUNNING")
        else:
            self._run_id = self._create(server, experiment)
        self._server = server
        return server

    def _create(self, server: Server, experiment: str) -> str:
        tags = [{"key": name, "value": value} for name, value in self._tags.items()]
        asked = {"experiment_id": experiment, "run_name": self._name, "start_time": _now(), "tags": tags}
        run_id = str(server.post("runs/create", asked)["run"]["info"]["run_id"])
        params = [{"key": name, "value": str(value)} for name, value in self._params.items()]
        server.post("runs/log-batch", {"run_id": run_id, "params": params})
        return run_id

    def _update(self, server: Server, status: str) -> None:
        ended = {} if status == "RUNNING" else {"end_time": _now()}
        server.post("runs/update", {"run_id": self._run_id, "status": status, **ended})


def _now() -> int:
    return int(time.time() * 1000)
