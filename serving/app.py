"""The online prediction service, for all models: ``uvicorn serving.app:app``."""

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

from serving import body, page, schemas
from serving.hosting import Hosting
from serving.live import Live
from serving.service import Service, log, state_of
from serving.settings import Settings
from tasks.settings.environment import environment
from tasks.storage.artefacts import Store

RETRY_SECONDS = 5
LOOPBACK = ("127.0.0.1", "::1")
DESCRIPTION = """\
Predictions of each model, made with the version
that its promotion ledger says is live and with what had landed by then. Every answer says which model and which data
it rests on; outside what has landed it is marked `degraded` and says why."""


def create_app(store: Store | None = None, settings: Settings | None = None, code: Path | None = None) -> FastAPI:
    """The app of the models that ``settings`` name, on the whole ``store`` (by default the environment's)."""
    settings = settings or Settings()
    hosting = Hosting(store or Store(environment().store_url), settings, code or environment().code)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with hosting.running():
            yield

    app = FastAPI(title="Airloop online", version="1", description=DESCRIPTION, lifespan=lifespan)
    app.state.hosting = hosting
    for name, service in hosting.services.items():
        _add_model(app, name, service)
    for name, reason in hosting.broken.items():
        _add_broken(app, name, reason)
    _add_routes(app, hosting)
    _document(app, hosting)
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
        content = await body.read(request, settings.max_body_bytes)
        asked = body.parse(content, settings.max_rows, service.spec.online)
        return _json({"predictions": await service.answer(asked, live)})
    except body.Refused as refused:
        return _json(refused.content, refused.status)
    except ClientDisconnect:
        return Response(status_code=400)  # nobody reads it; the metrics count it
    except Exception:  # noqa: BLE001 - a bug is answered with a sentence too, and logged whole
        log.exception("%s: a prediction failed", service.spec.name)
        return _unavailable("the prediction failed inside the service; its log says why")


def _add_model(app: FastAPI, name: str, service: Service) -> None:
    metrics, form = service.metrics, page.of_model(name, service.spec.online)

    async def predict(request: Request) -> Response:
        started = time.perf_counter()
        metrics.in_flight.inc()
        try:
            response = await _predict(service, request)
        finally:
            metrics.in_flight.dec()
        metrics.answered(response.status_code, time.perf_counter() - started)
        return response

    # A bare route: FastAPI's own way through dependencies that are not there would cost as much as the prediction.
    app.add_route(f"/models/{name}/predict", predict, methods=["POST"])

    @app.get(f"/models/{name}/ready", summary="Can predictions be made, and with what?", tags=[name])
    async def ready() -> Response:
        return _json(_status(service.live), 200 if service.live.ready else 503)

    @app.get(f"/models/{name}/", include_in_schema=False)
    async def show_form() -> HTMLResponse:
        return HTMLResponse(form)

    @app.post(f"/-/sync/{name}", summary="Agree with the promotion ledger and the landed intervals now", tags=[name])
    async def sync(request: Request) -> Response:
        if refusal := _not_admin(request, service.settings.admin_token):
            return _json({"error": refusal}, 403)
        live = await asyncio.shield(service.sync())
        agrees = live.ready and not {"model", "store"} & live.problems.keys()
        return _json(_status(live), 200 if agrees else 503)


def _add_broken(app: FastAPI, name: str, reason: str) -> None:
    async def refuse(_: Request) -> Response:
        return _unavailable(reason)

    for path in (f"/models/{name}/predict", f"/-/sync/{name}"):
        app.add_route(path, refuse, methods=["POST"])
    for path in (f"/models/{name}/ready", f"/models/{name}/"):
        app.add_route(path, refuse, methods=["GET"])


def _add_routes(app: FastAPI, hosting: Hosting) -> None:
    overview = page.of_models([*hosting.services, *hosting.broken])

    @app.get("/healthz", summary="Is the process alive?")
    async def healthz() -> Response:
        return _json({"alive": True})

    @app.get("/readyz", summary="Can predictions of any model be made? And each model, as at its own /ready")
    async def readyz() -> Response:
        models = {name: _status(service.live) for name, service in hosting.services.items()}
        models |= {name: _status(Live(reason=reason)) for name, reason in hosting.broken.items()}
        ready = any(status["ready"] for status in models.values())
        return _json({"ready": ready, "models": models}, 200 if ready else 503)

    @app.get("/metrics", summary="Prometheus metrics")
    async def show_metrics() -> Response:
        return Response(generate_latest(hosting.families.registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/", include_in_schema=False)
    async def show_models() -> HTMLResponse:
        return HTMLResponse(overview)

    @app.api_route("/models/{name}/{what:path}", methods=["GET", "POST"], include_in_schema=False)
    @app.api_route("/-/sync/{name}", methods=["GET", "POST"], include_in_schema=False)
    async def lost(name: str) -> Response:
        return _json({"error": _nothing_there(name, hosting), "problems": []}, 404)


def _nothing_there(name: str, hosting: Hosting) -> str:
    """What is wrong with an address that has this in a model's place."""
    if name not in hosting.services:
        served = ", ".join(hosting.services) or "none"
        return f"{name[:80]!r} is no model that is served here; there are: {served}."
    return (
        f"{name} has no such address; there are: POST /models/{name}/predict, GET /models/{name}/ready, GET /models/{name}/ "
        f"and POST /-/sync/{name}."
    )


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
        "refused": live.refused,
    }  # fmt: skip


def _document(app: FastAPI, hosting: Hosting) -> None:
    shapes = {name: schemas.Shapes(name, service.spec.online) for name, service in hosting.services.items()}
    about = [
        {"name": name, "description": service.spec.online.description} for name, service in hosting.services.items()
    ]

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title=app.title, version=app.version, description=app.description, routes=app.routes, tags=about
            )
            components = schema.setdefault("components", {}).setdefault("schemas", {})
            for name, shape in shapes.items():
                schema["paths"][f"/models/{name}/predict"] = {"post": shape.predict_docs()}
                components.update(shape.components())
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to extend the schema


app = create_app()
