"""The pipeline's metrics for Prometheus: GET /airloop/metrics/ of Airflow's api-server, with AIRLOOP_METRICS_TOKEN as bearer.

Read from Airflow's database and the store when asked for, so that nothing is lost by a restart and no exporter has to run
(docs/adr/0014). Without the token in its environment the api-server answers nobody.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated

from fastapi import Depends, FastAPI, Header, HTTPException
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry

from airloop.workspace import store

SECONDS_KEPT = 20.0
"""How long the store's part is told again: it is many small objects, and changes with a run."""


def authorise(authorization: Annotated[str, Header()] = "") -> None:
    """Raise 403 unless the request shows the token."""
    token = os.environ.get("AIRLOOP_METRICS_TOKEN", "")
    if not token:
        raise HTTPException(403, "AIRLOOP_METRICS_TOKEN is not set here, so nobody may read the metrics.")
    if not secrets.compare_digest(authorization.encode(), f"Bearer {token}".encode()):
        raise HTTPException(403, "This needs the header `Authorization: Bearer <AIRLOOP_METRICS_TOKEN>`.")


app = FastAPI(
    title="Airloop metrics", docs_url=None, redoc_url=None, openapi_url=None, dependencies=[Depends(authorise)]
)


class Gauges:
    """Gauge families by name, each made when its first value comes."""

    def __init__(self) -> None:
        self._families: dict[str, GaugeMetricFamily] = {}

    def add(self, name: str, help_text: str, value: object, **labels: object) -> None:
        """One value; nothing where it is None."""
        if value is None:
            return
        family = self._families.setdefault(name, GaugeMetricFamily(name, help_text, labels=list(labels)))
        family.add_metric([str(label) for label in labels.values()], float(value))  # type: ignore[arg-type] # values come from JSON and a database

    def families(self) -> Iterable[GaugeMetricFamily]:
        """All of them."""
        return self._families.values()


class Pipeline(Collector):
    """Asks its sources at each scrape; one that cannot be read says 0 in ``airloop_source_readable``."""

    def __init__(self, sources: dict[str, Callable[[Gauges], None]]) -> None:
        self._sources = sources

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The families of all sources that can be read."""
        readable = GaugeMetricFamily("airloop_source_readable", "Whether a source can be read.", labels=["source"])
        for name, read in self._sources.items():
            gauges = Gauges()
            try:
                read(gauges)
            except Exception:  # noqa: BLE001 - whatever its library raises; the other source is still told
                readable.add_metric([name], 0)
            else:
                readable.add_metric([name], 1)
                yield from gauges.families()
        yield readable


class Kept:
    """A source whose values are told again for some seconds."""

    def __init__(self, read: Callable[[Gauges], None], seconds: float) -> None:
        self._read, self._seconds = read, seconds
        self._until = 0.0
        self._gauges = Gauges()

    def __call__(self, gauges: Gauges) -> None:
        """Tell them, read anew where they are old."""
        if time.monotonic() >= self._until:
            fresh = Gauges()
            self._read(fresh)
            self._gauges, self._until = fresh, time.monotonic() + self._seconds
        gauges._families.update(self._gauges._families)  # noqa: SLF001 - of the same class


def _of_store(gauges: Gauges) -> None:
    from airloop.metrics_of_store import tell

    tell(store(), gauges)


def _of_airflow(gauges: Gauges) -> None:
    from airflow.utils.session import create_session

    from airloop.metrics_of_airflow import tell

    with create_session() as session:
        tell(session, gauges)


pipeline = Pipeline({"airflow": _of_airflow, "store": Kept(_of_store, SECONDS_KEPT)})


@app.get("/")
def metrics() -> Response:
    """Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(pipeline)
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
