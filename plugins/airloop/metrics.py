"""The pipeline's metrics for Prometheus: GET /airloop/metrics/ of Airflow's api-server, with AIRLOOP_METRICS_TOKEN as bearer.

Read from Airflow's database and the store when asked for, so that nothing is lost by a restart and no exporter has to run
(docs/adr/0014). Without the token in its environment the api-server answers nobody.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from typing import Annotated

from fastapi import Depends, FastAPI, Header, HTTPException
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry

from airloop.model import BrokenModel, Model, all_models
from airloop.settings import AccessSettings, load
from tasks.core.errors import ConfigError

SECONDS_KEPT = 20.0
"""How long the store's part is reused: it is many small objects, and changes with a run."""


def authorise(authorization: Annotated[str, Header()] = "") -> None:
    """Raise 403 unless the request shows the token."""
    token = load(AccessSettings).metrics_token
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

    def take(self, other: Gauges) -> None:
        """Add the values of ``other``."""
        for name, family in other._families.items():
            mine = self._families.setdefault(name, GaugeMetricFamily(name, family.documentation))
            mine.samples += family.samples

    def families(self) -> Iterable[GaugeMetricFamily]:
        """All of them."""
        return self._families.values()


Read = Callable[[Gauges], None]


class Pipeline(Collector):
    """Asks its sources at each scrape; one that cannot be read says 0 in ``airloop_source_readable``, and hides no other.

    Args:
        sources: for each, its name, the model that it is about (empty where it is about all), and what reads it.
    """

    def __init__(self, sources: Callable[[], Iterable[tuple[str, str, Read]]]) -> None:
        self._sources = sources

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The families of all sources that can be read."""
        collected = Gauges()
        for source, model, read in self._sources():
            gauges, readable = Gauges(), 1
            try:
                read(gauges)
            except Exception:  # noqa: BLE001 - any library's error: one source must not hide the others
                gauges, readable = Gauges(), 0
            collected.take(gauges)
            collected.add(
                "airloop_source_readable", "Whether a source can be read.", readable, source=source, model=model
            )
        yield from collected.families()


class CachedSource:
    """A source whose values are reused for some seconds."""

    def __init__(self, read: Read, seconds: float) -> None:
        self._read, self._seconds = read, seconds
        self._until = 0.0
        self._gauges = Gauges()

    def __call__(self, gauges: Gauges) -> None:
        """Add them; read them first where they are old."""
        if time.monotonic() >= self._until:
            fresh = Gauges()
            self._read(fresh)
            self._gauges, self._until = fresh, time.monotonic() + self._seconds
        gauges.take(self._gauges)


@cache
def _kept(model: Model) -> CachedSource:
    from airloop.metrics_of_store import collect

    return CachedSource(lambda gauges: collect(model, gauges), SECONDS_KEPT)


def _sources() -> Iterator[tuple[str, str, Read]]:
    """Airflow's database, and of each model its spec and its part of the store."""
    yield "airflow", "", _of_airflow
    for model in all_models():
        if isinstance(model, BrokenModel):
            yield "spec", model.folder, partial(_refuse, model.problem)
        else:
            yield "store", model.name, _kept(model)


def _refuse(problem: str, _: Gauges) -> None:
    raise ConfigError(problem)


def _of_airflow(gauges: Gauges) -> None:
    from airflow.utils.session import create_session

    from airloop.metrics_of_airflow import collect

    with create_session() as session:
        collect(session, gauges)


pipeline = Pipeline(_sources)


@app.get("/")
def metrics() -> Response:
    """Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(pipeline)
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
