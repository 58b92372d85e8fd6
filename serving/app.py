"""The online prediction service: ``uvicorn serving.app:app``."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response

from serving import body, schemas
from serving.live import Live, Loader
from serving.log import PredictionLog
from serving.service import Service, log, state_of
from serving.settings import Settings
from tasks.common.artefacts import Store
from tasks.common.environment import environment
from tasks.common.environment import store as environment_store

PAGE = (Path(__file__).parent / "page.html").read_text()
RETRY_SECONDS = 5
LOOPBACK = ("127.0.0.1", "::1")
DESCRIPTION = """\
Will this flight arrive 15 minutes late or more? Answered as of three hours before its scheduled hour, with the model
that the promotion ledger says is live and with what had landed by then. Every answer says which model and which data
it rests on; outside what has landed it is marked `degraded` and says why."""


def create_app(store: Store | None = None, settings: Settings | None = None, code: Path | None = None) -> FastAPI:
    """The app on ``store`` (by default the environment's)."""
    store = store or environment_store()
    settings = settings or Settings()
    loader = Loader(store, code or environment().code, settings.version)
    service = Service(loader, PredictionLog(store), settings)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield

    app = FastAPI(title="Airloop online", version="1", description=DESCRIPTION, lifespan=lifespan)
    app.state.service = service
    _add_routes(app, service)
    _document(app)
    return app


def _json(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), status, headers, media_type="application/json")


def _unavailable(reason: str) -> Response:
    return _json({"error": reason, "problems": []}, 503, {"retry-after": str(RETRY_SECONDS)})


async def _predict(service: Service, request: Request) -> Response:
    live = service.live  # the request keeps what was live when it came
    if not live.ready:
        return _unavailable(live.reason)
    settings = service.settings
    try:
        flights = body.parse(await body.read(request, settings.max_body_bytes), settings.max_flights)
        return _json({"predictions": await service.answer(flights, live)})
    except body.Refused as refused:
        return _json(refused.content, refused.status)
    except ClientDisconnect:
        return Response(status_code=400)  # nobody reads it; the metrics count it
    except Exception:  # noqa: BLE001 - a bug is answered with a sentence too, and logged whole
        log.exception("a prediction failed")
        return _unavailable("the prediction failed inside the service; its log says why")


def _add_routes(app: FastAPI, service: Service) -> None:
    metrics = service.metrics
    by_status: dict[int, Any] = {}

    async def predict(request: Request) -> Response:
        started = time.perf_counter()
        metrics.in_flight.inc()
        try:
            response = await _predict(service, request)
        finally:
            metrics.in_flight.dec()
        counter = by_status.get(response.status_code)
        if counter is None:
            counter = by_status[response.status_code] = metrics.requests.labels(str(response.status_code))
        counter.inc()
        metrics.seconds.observe(time.perf_counter() - started)
        return response

    # A bare route: FastAPI's own way through dependencies that are not there would cost as much as the prediction.
    app.add_route("/predict", predict, methods=["POST"])

    @app.get("/healthz", summary="Is the process alive?")
    async def healthz() -> Response:
        return _json({"alive": True})

    @app.get("/readyz", summary="Can predictions be made, and with what?")
    async def readyz() -> Response:
        return _json(_status(service.live), 200 if service.live.ready else 503)

    @app.get("/metrics", summary="Prometheus metrics")
    async def show_metrics() -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @app.post("/-/sync", summary="Agree with the promotion ledger and the landed months now")
    async def sync(request: Request) -> Response:
        if refusal := _not_admin(request, service.settings.admin_token):
            return _json({"error": refusal}, 403)
        live = await asyncio.shield(service.sync())
        agrees = live.ready and not {"model", "store"} & live.problems.keys()
        return _json(_status(live), 200 if agrees else 503)

    @app.get("/", include_in_schema=False)
    async def page() -> HTMLResponse:
        return HTMLResponse(PAGE)


def _not_admin(request: Request, token: str) -> str | None:
    """Why the request may not give orders, None when it may."""
    if token:
        given = request.headers.get("authorization", "").encode()
        if secrets.compare_digest(given, f"Bearer {token}".encode()):
            return None
        return "This needs the header `Authorization: Bearer <AIRLOOP_ADMIN_TOKEN>`."
    if request.client and request.client.host in LOOPBACK:
        return None
    return "Only this machine may ask, since the service has no AIRLOOP_ADMIN_TOKEN."


def _status(live: Live) -> dict[str, Any]:
    model = live.model
    return {
        "ready": live.ready,
        "reason": None if live.ready else live.reason,
        "model_version": model.version if model else None,
        "model": model and {
            "sha256": model.model.sha256, "ledger_seq": model.seq,
            "features": list(model.model.contract.names),
        },
        "state": state_of(live),
        "problems": live.problems,
    }  # fmt: skip


def _document(app: FastAPI) -> None:
    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            schema["paths"]["/predict"] = {"post": schemas.predict_docs()}
            schema.setdefault("components", {}).setdefault("schemas", {}).update(schemas.components())
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to extend the schema


app = create_app()
