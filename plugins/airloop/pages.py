"""The Airloop page in Airflow's web UI: what is live and why, and each month's numbers, decision and report.

Behind Airflow's login: Airflow mounts a plugin's web application without one.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from airflow.api_fastapi.auth.managers.models.resource_details import AccessView
from airflow.api_fastapi.core_api.security import requires_access_view
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi import Path as FromPath
from fastapi.responses import HTMLResponse, JSONResponse
from jinja2 import Environment, FileSystemLoader

from airloop.house import MONTH_PATTERN
from airloop.workspace import code

if TYPE_CHECKING:
    from tasks.common.artefacts import Store

MONTH_NUMBERS = ("auc", "log_loss", "ece")
# Reports hold scripts of their own. In a sandbox without an origin they draw, but cannot act as the logged-in reader.
SANDBOX = {"Content-Security-Policy": "sandbox allow-scripts", "X-Content-Type-Options": "nosniff"}
PAGE_HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'", "Cache-Control": "no-store"}

app = FastAPI(
    title="Airloop",
    docs_url=None,
    redoc_url=None,
    openapi_url=None,  # these three would answer without a login
    dependencies=[Depends(requires_access_view(AccessView.WEBSITE))],
)
templates = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)

Month = Annotated[str, FromPath(pattern=MONTH_PATTERN)]


@app.get("/")
def page(request: Request) -> HTMLResponse:
    """The page itself."""
    # Airflow shows it in a sandboxed frame, where a link out of it (another tab, another site) does nothing.
    frame = {"links": _links(), "framed": request.headers.get("sec-fetch-dest") == "iframe"}
    try:
        body = templates.get_template("page.html").render(**frame, **overview(_store()))
    except Exception as error:  # noqa: BLE001 - a store that cannot be read is said in the page, whatever its library raises
        body = templates.get_template("page.html").render(**frame, problem=str(error))
    return HTMLResponse(body, headers=PAGE_HEADERS)


@app.get("/overview.json")
def numbers() -> JSONResponse:
    """What the page shows, for machines."""
    return JSONResponse(overview(_store()))


@app.get("/reports/{month}")
def report(month: Month) -> HTMLResponse:
    """Evidently's drift report of a month."""
    return HTMLResponse(_read(f"reports/{month}/drift.html", month), headers=SANDBOX)


@app.get("/reports/{month}/monitor.json")
def monitored(month: Month) -> JSONResponse:
    """The monitor's numbers of a month."""
    return JSONResponse(json.loads(_read(f"reports/{month}/monitor.json", month)))


def overview(store: Store) -> dict[str, Any]:
    """What is live, every promotion (newest first), every landed month, and what is still to come.

    Raises what the store raises; a damaged ledger is an error rather than a shorter one.
    """
    from tasks.common.ledger import Ledger

    entries = Ledger(store).entries()
    names = {name for folder in ("landed", "predictions", "reports", "decisions") for name in store.names(folder)}
    months = [
        _month(store, name.removeprefix("landed/").removesuffix(".json"), names)
        for name in sorted(names)
        if name.startswith("landed/")
    ]
    return {
        "live": entries[-1].model_dump() if entries else None,
        "ledger": [entry.model_dump() for entry in reversed(entries)],
        "months": months,
        "pending": [f"{m['month']}: {m['pending']}" for m in months if m["pending"]],
        "problem": None,
    }


def _month(store: Store, month: str, names: set[str]) -> dict[str, Any]:
    def read(name: str) -> dict[str, Any]:
        return dict(store.read_json(name)) if name in names else {}

    counts = read(f"landed/{month}.json").get("counts", {}).get("flights", {})
    scored = read(f"predictions/{month}/scored.json")
    decided = [read(name) for name in sorted(names) if name.startswith(f"decisions/{month}/")]
    # A month scored again, or landed with other data, has a decision for each; the one that counts is about what stands.
    now = [
        d for d in decided if (d.get("champion"), d.get("features")) == (scored.get("champion"), scored.get("features"))
    ]
    seen = {**(now[-1] if now else {}), **read(f"reports/{month}/monitor.json")}
    pending = None if seen else "has predictions, not monitored yet" if scored else "landed, not scored yet"
    return {
        "month": month,
        **{key: counts.get(key) for key in ("landed", "kept", "quarantined")},
        "status": scored.get("status"),
        "champion": scored.get("champion"),
        **{key: seen.get(key) for key in MONTH_NUMBERS},
        "outcome": seen.get("outcome"),
        "retrain": seen.get("retrain"),
        "reason": seen.get("reason"),
        "report": f"reports/{month}/drift.html" in names,
        "pending": pending,
    }


def _read(name: str, month: str) -> bytes:
    try:
        return _store().read(name)
    except FileNotFoundError:
        raise HTTPException(404, f"{month} has no report yet; the monitor DAG writes it.") from None


def _links() -> list[tuple[str, str]]:
    online = os.environ.get("AIRLOOP_ONLINE_URL", "").rstrip("/")
    found = [
        ("MLflow", os.environ.get("MLFLOW_TRACKING_URI", "")),
        ("Online service", f"{online}/docs" if online else ""),
    ]
    return [(name, url) for name, url in found if url.startswith(("http://", "https://"))]


def _store() -> Store:
    if str(code()) not in sys.path:  # the api-server knows plugins/, not the checkout
        sys.path.append(str(code()))
    from tasks.common.environment import store

    return store()
