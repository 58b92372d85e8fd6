"""What the demo says of an interval, and reports/demo.json: read from the store, where the stages recorded it."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from local.paths import ROOT
from local.place import Place
from tasks import spec
from tasks.landing import landed
from tasks.registry.ledger import Ledger
from tasks.settings.environment import environment
from tasks.storage.artefacts import Store, to_json, write_atomic

REPORT = ROOT / "reports" / "demo.json"


def landed_line(store: Store, interval: str) -> str:
    """How many rows an interval brought."""
    record = landed.read(store, interval)
    model = spec.current()
    counts = record.counts[model.rows] if record else {}
    bad: dict[str, int] = dict(record.counts.get("reasons", {})) if record else {}
    away = quarantined(record) if record else 0
    why = f" ({escape(', '.join(f'{n} x {reason}' for reason, n in bad.items()))})" if bad else ""
    return f"[bold]{interval}[/] landed: {counts['landed']:,} {model.words.rows}, {away} rows quarantined{why}"


def quarantined(record: landed.Landed) -> int:
    """Rows of all tables that were put aside, each once whatever it broke."""
    return sum(
        table["quarantined"] for table in record.counts.values() if isinstance(table, dict) and "quarantined" in table
    )


def monitor_line(store: Store, interval: str) -> str:
    """What the labels said."""
    report = store.read_json(f"reports/{interval}/monitor.json")
    decision = report["decision"]
    verdict = "[yellow]retrain[/]" if decision["retrain"] else decision["outcome"]
    measured = _measures(report)
    numbers = (
        f"AUC {measured['auc']:.3f}, log loss {measured['log_loss']:.3f}, ECE {measured['ece']:.3f}; "
        if measured["auc"]
        else ""
    )
    return f"        {numbers}{escape(decision['reason'])}: {verdict}"


def gate_line(store: Store, interval: str) -> str:
    """What the gate said of the newest candidate trained through ``interval``."""
    gate = _gates(store, interval)[-1]
    colour = "green" if gate["passed"] else "red"
    return f"        gate: [{colour}]{escape(gate['summary'])}[/]"


def live_line(store: Store) -> str:
    """What is live now."""
    entry = Ledger(store).entries()[-1]
    return f"        [green]v{entry.to_version} is live[/] from {entry.effective_from}, in MLflow and online"


def collect(store: Store, online: dict[str, Any]) -> dict[str, Any]:
    """What the play came to: intervals, promotions, refusals, and what was asked online."""
    records = landed.read_all(store)
    return {
        "intervals": [_interval(store, record) for record in records.values()],
        "promotions": [entry.model_dump() for entry in Ledger(store).entries()],
        "refusals": [
            {"run": gate["run"], "verdict": gate["verdict"], "failures": gate["failures"]}
            for interval in records
            for gate in _gates(store, interval)
            if not gate["passed"]
        ],
        "online": online,
        "reports": [
            store.uri(f"reports/{interval}/index.html")
            for interval in records
            if store.exists(f"reports/{interval}/index.html")
        ],
    }


def links(where: Place, password: str) -> dict[str, Any]:
    """Where a browser on this machine finds it all, with the login."""
    return {
        "airflow": where.airflow_url,
        "airflow_login": f"admin / {password}",
        "airloop_page": f"{where.airflow_url}/airloop/",
        "mlflow": where.mlflow_url,
        "online": where.online_url,
        "online_docs": f"{where.online_url}/docs",
    }


def write(played: dict[str, Any], found: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Write reports/demo.json from what was collected and the links; returns its content."""
    kept = {name: value for name, value in played.items() if name != "reports"}
    reports = [_openable(uri, found["airloop_page"]) for uri in played["reports"]]
    report = {**kept, "seconds": round(seconds, 1), "links": {**found, "reports": reports}}
    write_atomic(REPORT, to_json(report))
    return report


def show(report: dict[str, Any], console: Console, lineage: str, place: str) -> None:
    """The table of intervals, the links, and the commands that ask where a prediction comes from and stop it all."""
    table = Table(title="Intervals", title_justify="left")
    for name in ("interval", "landed", "quarantined", "champion", "AUC", "log loss", "ECE", "retrain", "outcome"):
        table.add_column(name, justify="left" if name in ("interval", "outcome") else "right")
    for row in report["intervals"]:
        champion = f"v{row['champion']}" if row["champion"] else "-"
        numbers = [f"{row[name]:.3f}" if row[name] is not None else "-" for name in ("auc", "log_loss", "ece")]
        table.add_row(
            row["interval"],
            f"{row['landed']:,}",
            str(row["quarantined"]),
            champion,
            *numbers,
            "yes" if row["retrain"] else "no",
            row["outcome"],
        )
    console.print(table)
    online, links = report["online"], report["links"]
    console.print(
        f"Online: {online['requests']} requests, {online['failed']} failed, {online['degraded']} answered without "
        "all features (asked ahead of what has landed)."
        + (f" The last failure: {escape(online['last_error'])}" if online["failed"] else ""),
        highlight=False,
        soft_wrap=True,
    )
    for name, label in (
        ("airflow", "Airflow"),
        ("airloop_page", "Airloop's page"),
        ("mlflow", "MLflow"),
        ("online_docs", "Service"),
    ):
        login = f"   login {links['airflow_login']}" if name == "airflow" else ""
        console.print(f"{label:<15} {links[name]}{login}", highlight=False, soft_wrap=True)
    if links["reports"]:
        console.print(f"{'Drift reports':<15} {links['reports'][-1]}", highlight=False, soft_wrap=True)
    if online["last_prediction"]:
        console.print(
            f"\nOf any prediction:  {lineage.format(online['last_prediction'])}",
            highlight=False,
            soft_wrap=True,
        )
    console.print(
        f"Done in {report['seconds']:.0f} s; {REPORT.relative_to(ROOT)} has it for machines. All this is the demo's own, beside "
        f"what `airloop up` starts: `airloop down{place} --demo` stops it, `airloop delete{place} --demo` deletes it.",
        highlight=False,
        soft_wrap=True,
    )


def _openable(uri: str, page: str) -> str:
    """A report's file, or its page in Airflow where it lies in a bucket."""
    return uri if uri.startswith("file:") else page + uri[uri.index("reports/") :]


def _interval(store: Store, record: landed.Landed) -> dict[str, Any]:
    interval, counts = record.interval, record.counts[spec.current().rows]
    report = (
        store.read_json(f"reports/{interval}/monitor.json")
        if store.exists(f"reports/{interval}/monitor.json")
        else None
    )
    measured = _measures(report) if report else {"auc": None, "log_loss": None, "ece": None}
    retrain = bool(report and report["decision"]["retrain"])
    return {
        "interval": interval,
        "landed": counts["landed"],
        "kept": counts["kept"],
        "quarantined": quarantined(record),
        "champion": report["champion"]["version"] if report and report.get("champion") else None,
        **measured,
        "retrain": retrain,
        "outcome": _outcome(store, interval, report, retrain),
    }


def _outcome(store: Store, interval: str, report: dict[str, Any] | None, retrain: bool) -> str:
    """In a few words, what came of the interval."""
    if not retrain:
        return str(report["decision"]["outcome"]) if report else "not watched yet"
    gates = _gates(store, interval)
    promoted = [
        e
        for e in Ledger(store).entries()
        if e.action == "promote" and e.evidence and e.evidence.data_through == interval
    ]
    if promoted:
        return f"v{promoted[-1].to_version} promoted"
    return f"challenger: {gates[-1]['verdict']}" if gates else "training"


def _measures(report: dict[str, Any]) -> dict[str, float | None]:
    champion = report.get("champion") or {}
    return {name: (champion.get(name) or {}).get("value") for name in ("auc", "log_loss", "ece")}


def _gates(store: Store, interval: str) -> list[dict[str, Any]]:
    """Verdicts on candidates trained through ``interval``, each with its run, oldest first."""
    return [
        {"run": name.split("/")[1], **json.loads(store.read(name))}
        for name in store.names("runs")
        if name.endswith("/gate.json") and name.startswith(f"runs/{environment().model}-train-{interval}-")
    ]
