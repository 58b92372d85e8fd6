"""The Airloop page in Airflow's web UI: what is live and why, and each month's numbers, decision and report.

Behind Airflow's login: Airflow mounts a plugin's web application without one.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from airflow.api_fastapi.auth.managers.models.resource_details import AccessView
from airflow.api_fastapi.core_api.security import requires_access_view
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi import Path as FromPath
from fastapi.responses import HTMLResponse, JSONResponse, Response
from jinja2 import Environment, FileSystemLoader

from airloop.house import MONTH_PATTERN
from airloop.workspace import store

if TYPE_CHECKING:
    from tasks.common.artefacts import Store

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
ReportFile = Literal["index.html", "drift.html", "monitor.json"]


@app.get("/")
def page(request: Request) -> HTMLResponse:
    """The page itself."""
    # Airflow shows it in a sandboxed frame, where a link out of it (another tab, another site) does nothing.
    frame = {"links": _links(), "framed": request.headers.get("sec-fetch-dest") == "iframe"}
    try:
        body = templates.get_template("page.html").render(**frame, **overview(store()))
    except Exception as error:  # noqa: BLE001 - a store that cannot be read is said in the page, whatever its library raises
        body = templates.get_template("page.html").render(**frame, problem=str(error))
    return HTMLResponse(body, headers=PAGE_HEADERS)


@app.get("/overview.json")
def numbers() -> JSONResponse:
    """What the page shows, for machines."""
    return JSONResponse(overview(store()))


@app.get("/reports/{month}/{name}")
def report(month: Month, name: ReportFile) -> Response:
    """A page or the numbers that the monitor wrote about a month."""
    try:
        data = store().read(f"reports/{month}/{name}")
    except FileNotFoundError:
        raise HTTPException(404, f"{month} has no {name} yet; the monitor DAG writes it.") from None
    return Response(data, media_type="application/json" if name.endswith(".json") else "text/html", headers=SANDBOX)


def overview(store: Store) -> dict[str, Any]:
    """What is live, every promotion (newest first), every landed month, and what is still to come.

    Raises what the store raises; a damaged ledger is an error rather than a shorter one.
    """
    from tasks.common.ledger import Ledger

    entries = Ledger(store).entries()
    names = {name for folder in ("landed", "predictions", "reports") for name in store.names(folder)}
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

    counted = read(f"landed/{month}.json").get("counts", {})
    counts = counted.get("flights", {})
    quarantined = [
        table["quarantined"] for table in counted.values() if isinstance(table, dict) and "quarantined" in table
    ]
    scored = read(f"predictions/{month}/scored.json")
    seen = read(f"reports/{month}/monitor.json")
    champion, decision, audit = (seen.get(part) or {} for part in ("champion", "decision", "audit"))
    return {
        "month": month,
        **{key: counts.get(key) for key in ("landed", "kept")},
        "quarantined": sum(quarantined) if quarantined else None,  # of all tables, as the demo counts
        "status": scored.get("status"),
        "champion": scored.get("champion"),
        **{key: (champion.get(key) or {}).get("value") for key in ("auc", "log_loss", "ece")},
        **{key: decision.get(key) for key in ("retrain", "outcome", "reason")},
        "notes": [*seen.get("alarms", []), *([audit["sentence"]] if audit.get("rollback") else [])],
        "reports": [name for name in get_args(ReportFile) if f"reports/{month}/{name}" in names],
        "pending": _pending(scored, seen, decision),
    }


def _pending(scored: dict[str, Any], seen: dict[str, Any], decision: dict[str, Any]) -> str | None:
    """What a landed month still waits for, None when nothing."""
    if not scored:
        return "landed, not scored yet"
    if not seen:
        return "scored, not monitored yet"
    # Landed again with other data, or scored again with another champion: the numbers are about what was.
    now, then = ([d.get("champion"), d.get("features")] for d in (scored, decision))
    return None if now == then else "scored again, not monitored again yet"


def _links() -> list[tuple[str, str]]:
    """Names and addresses: AIRLOOP_LINKS as JSON, where a browser finds things elsewhere than this process does."""
    if told := os.environ.get("AIRLOOP_LINKS"):
        return [(name, url) for name, url in json.loads(told).items() if url.startswith(("http://", "https://"))]
    online = os.environ.get("AIRLOOP_ONLINE_URL", "").partition(",")[0].strip().rstrip("/")  # any replica is as good
    found = [
        ("MLflow", os.environ.get("MLFLOW_TRACKING_URI", "")),
        ("Online service", f"{online}/docs" if online else ""),
    ]
    return [(name, url) for name, url in found if url.startswith(("http://", "https://"))]
