"""The Airloop pages in Airflow's web UI: the models, and of each what is live and why, and each interval's numbers, decision and report.

Behind Airflow's login: Airflow mounts a plugin's web application without one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from airflow.api_fastapi.auth.managers.models.resource_details import AccessView
from airflow.api_fastapi.core_api.security import requires_access_view
from fastapi import Depends, FastAPI, HTTPException, Query, Request
from fastapi import Path as FromPath
from fastapi.responses import HTMLResponse, JSONResponse, Response
from jinja2 import Environment, FileSystemLoader

from airloop.model import BrokenModel, Model, all_models, find
from airloop.settings import LinkSettings, load
from airloop.stores import store_of
from tasks.core.errors import ConfigError
from tasks.core.model_names import NAME
from tasks.intervals.cadence import KEY

if TYPE_CHECKING:
    from tasks.storage.artefacts import Store

# Reports hold scripts of their own. In a sandbox without an origin they draw, but cannot act as the logged-in reader.
SANDBOX = {"Content-Security-Policy": "sandbox allow-scripts", "X-Content-Type-Options": "nosniff"}
ROWS = ("landed", "kept", "quarantined")
SHOWN = 12
"""Intervals of a page: each costs a few reads of the store, and there may be tens of thousands."""
PAGE_HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'", "Cache-Control": "no-store"}

app = FastAPI(
    title="Airloop",
    docs_url=None,
    redoc_url=None,
    openapi_url=None,  # these three would answer without a login
    dependencies=[Depends(requires_access_view(AccessView.WEBSITE))],
)
templates = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)

Name = Annotated[str, FromPath(pattern=f"^{NAME.pattern}$")]
IntervalKey = Annotated[str, FromPath(pattern=f"^{KEY}$")]
Before = Annotated[str | None, Query(pattern=f"^{KEY}$")]
ReportFile = Literal["index.html", "drift.html", "monitor.json"]


@app.get("/")
def list_page(request: Request) -> HTMLResponse:
    """The models, broken ones with their problem."""
    return _page("models.html", request, lambda: {"models": [_summary(model) for model in all_models()]})


@app.get("/{name}/")
def model_page(name: Name, request: Request, before: Before = None) -> HTMLResponse:
    """The page of one model, with its newest intervals, or the newest before an interval."""
    model = _model(name)
    return _page("page.html", request, lambda: overview(model, before), model=model.name)


@app.get("/{name}/overview.json")
def numbers(name: Name, before: Before = None) -> JSONResponse:
    """What the page shows, for machines."""
    return JSONResponse(overview(_model(name), before))


@app.get("/{name}/reports/{interval}/{file}")
def report(name: Name, interval: IntervalKey, file: ReportFile) -> Response:
    """A page or the numbers that the monitor wrote about an interval."""
    model = _model(name)
    try:
        data = store_of(model.name).read(f"reports/{interval}/{file}")
    except FileNotFoundError:
        missing = f"{interval} has no {file} yet; the DAG {model.dag_id('monitor')} writes it."
        raise HTTPException(404, missing) from None
    return Response(data, media_type="application/json" if file.endswith(".json") else "text/html", headers=SANDBOX)


def _page(template: str, request: Request, read: Callable[[], dict[str, Any]], **given: Any) -> HTMLResponse:
    """Render ``template`` with what ``read`` returns; what cannot be read is said in the page, whatever its library raises."""
    # Airflow shows it in a sandboxed frame, where a link out of it (another tab, another site) does nothing.
    given |= {"framed": request.headers.get("sec-fetch-dest") == "iframe", "links": []}
    try:
        given["links"] = _links()
        body = templates.get_template(template).render({**given, **read()})
    except Exception as error:  # noqa: BLE001 - any library's error: the page says it
        body = templates.get_template(template).render({**given, "problem": str(error)})
    return HTMLResponse(body, headers=PAGE_HEADERS)


def _model(name: str) -> Model:
    try:
        return find(name)
    except ConfigError as error:
        raise HTTPException(404, str(error)) from None


def _summary(model: Model | BrokenModel) -> dict[str, Any]:
    """One line of the list; a model whose records cannot be read takes no other line away."""
    from tasks.landing import landed_index
    from tasks.registry.ledger import Ledger

    if isinstance(model, BrokenModel):
        return {"name": model.folder, "problem": model.problem}
    found: dict[str, Any] = {"name": model.name, "owner": model.owner, "cadence": model.cadence.kind, "problem": None}
    try:
        store = store_of(model.name)
        index = landed_index.read(store)
        latest = Ledger(store).latest()
    except Exception as error:  # noqa: BLE001 - any library's error: the other lines stay
        return {**found, "problem": str(error)}
    return {**found, "landed": len(index), "newest": index.newest, "live": latest and latest.to_version}


def overview(model: Model, before: str | None = None) -> dict[str, Any]:
    """What is live, every promotion (newest first), the newest landed intervals (before one), and what they still wait for.

    Raises what the store raises; a damaged ledger is an error rather than a shorter one.
    """
    from tasks.landing import landed_index
    from tasks.registry.ledger import Ledger
    from tasks.registry.notices import sentences

    store = store_of(model.name)
    entries = Ledger(store).entries()
    index = landed_index.read(store)
    # One more than is shown says whether there are older ones.
    found = [item.interval for item in index.last(SHOWN + 1, before)]
    intervals = [_interval(store, key) for key in found[-SHOWN:]]
    return {
        "model": model.name,
        "live": entries[-1].model_dump() if entries else None,
        "ledger": [entry.model_dump() for entry in reversed(entries)],
        "landed": len(index),
        "intervals": intervals,
        "older": found[-SHOWN] if len(found) > SHOWN else None,
        "before": before,
        "notices": sentences(store),
        "pending": [f"{m['interval']}: {m['pending']}" for m in intervals if m["pending"]],
        "problem": None,
    }


def _interval(store: Store, interval: str) -> dict[str, Any]:
    def read(name: str) -> dict[str, Any]:
        try:
            return dict(store.read_json(name))
        except FileNotFoundError:
            return {}

    written = set(store.names(f"reports/{interval}"))
    tables = _tables(read(f"landed/{interval}.json"))
    scored = read(f"predictions/{interval}/scored.json")
    seen = read(f"reports/{interval}/monitor.json")
    champion, decision, audit = (seen.get(part) or {} for part in ("champion", "decision", "audit"))
    return {
        "interval": interval,
        "tables": tables,
        **{kind: sum(counts[kind] for counts in tables.values()) if tables else None for kind in ROWS},
        "status": scored.get("status"),
        "champion": scored.get("champion"),
        **{key: (champion.get(key) or {}).get("value") for key in ("auc", "log_loss", "ece")},
        **{key: decision.get(key) for key in ("retrain", "outcome", "reason")},
        "notes": [*seen.get("alarms", []), *([audit["sentence"]] if audit.get("rollback") else [])],
        "reports": [name for name in get_args(ReportFile) if f"reports/{interval}/{name}" in written],
        "pending": _pending(scored, seen, decision),
    }


def _tables(landed: dict[str, Any]) -> dict[str, dict[str, int]]:
    """Of a landed record: table to its rows that landed, were kept, and were set aside."""
    counts = landed.get("counts", {})
    return {table: found for table, found in counts.items() if isinstance(found, dict) and set(ROWS) <= set(found)}


def _pending(scored: dict[str, Any], seen: dict[str, Any], decision: dict[str, Any]) -> str | None:
    """What a landed interval still waits for, None when nothing."""
    if not scored:
        return "landed, not scored yet"
    if not seen:
        return "scored, not monitored yet"
    # Landed again with other data, or scored again with another champion: the numbers are about what was.
    now, then = ([d.get("champion"), d.get("features")] for d in (scored, decision))
    return None if now == then else "scored again, not monitored again yet"


def _links() -> list[tuple[str, str]]:
    """Names and addresses: AIRLOOP_LINKS as JSON, where a browser finds things elsewhere than this process does."""
    settings = load(LinkSettings)
    online = settings.online.partition(",")[0].strip().rstrip("/")  # any replica is as good
    by_default = {"MLflow": settings.mlflow, "Online service": f"{online}/docs" if online else ""}
    found = by_default if settings.links is None else settings.links
    return [(name, url) for name, url in found.items() if url.startswith(("http://", "https://"))]
