"""What a model's part of the store knows of the pipeline: intervals, gate, drift, ledger."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Protocol

from airloop.model import Model
from airloop.pages import ROWS, SHOWN, overview
from airloop.stores import store_of
from tasks.intervals.cadence import KEY

if TYPE_CHECKING:
    from tasks.storage.artefacts import Store

MEASURES = ("auc", "log_loss", "ece")
GATE = re.compile(rf"runs/[a-z0-9_]+-train-({KEY})-(\w+)/gate\.json")

GATES = 50
"""Newest candidates whose gate is published: one is a read of the store and seven series, and there are more every interval."""


class Sink(Protocol):
    """Takes one value of a gauge."""

    def add(self, name: str, help_text: str, value: object, **labels: object) -> None:
        """One value; nothing where it is None."""


def collect(of: Model, gauges: Sink) -> None:
    """A model's newest intervals, its gates and its ledger as gauges. Raises what the store raises."""
    model, store, found = of.name, store_of(of.name), overview(of)
    live = (found["live"] or {}).get("to_version") or 0
    gauges.add("airloop_live_version", "Model version that the ledger says is live; 0 for none.", live, model=model)
    gauges.add("airloop_ledger_entries", "Entries of the promotion ledger.", len(found["ledger"]), model=model)
    reverts = sum(entry["action"] != "promote" for entry in found["ledger"])
    gauges.add("airloop_ledger_reversals", "Entries that took a version back.", reverts, model=model)
    longest = of.cadence.longest.total_seconds()
    gauges.add("airloop_cadence_seconds", "Length of the longest interval.", longest, model=model)
    pending = len(found["pending"])
    gauges.add("airloop_intervals_pending", f"Of the newest {SHOWN} landed intervals, those not scored or not monitored yet.", pending, model=model)  # fmt: skip
    for interval in found["intervals"]:
        _interval(store, model, interval, gauges)
    monitored = [interval["interval"] for interval in found["intervals"] if "monitor.json" in interval["reports"]]
    if monitored:
        gauges.add(
            "airloop_interval_newest", "1 for the newest monitored interval.", 1, model=model, interval=monitored[-1]
        )
    judged = [match for name in store.names("runs") if (match := GATE.fullmatch(name))]
    for match in judged[-GATES:]:
        _gate(model, match[1], match[2], dict(store.read_json(match[0])), gauges)


def _interval(store: Store, model: str, interval: dict[str, Any], gauges: Sink) -> None:
    key = interval["interval"]
    for table, counts in interval["tables"].items():
        for kind in ROWS:
            gauges.add("airloop_interval_rows", "Rows of an interval.", counts[kind], model=model, interval=key, table=table, kind=kind)  # fmt: skip
    for measure in MEASURES:
        gauges.add("airloop_interval_quality", "How good the champion was in an interval.", interval[measure], model=model, interval=key, measure=measure)  # fmt: skip
    gauges.add(
        "airloop_interval_champion",
        "Model version that scored an interval.",
        interval["champion"],
        model=model,
        interval=key,
    )
    gauges.add(
        "airloop_interval_retrain",
        "Whether the labels asked for a retrain.",
        interval["retrain"],
        model=model,
        interval=key,
    )
    if "monitor.json" not in interval["reports"]:
        return
    seen = dict(store.read_json(f"reports/{key}/monitor.json"))
    psi = (seen.get("quality") or {}).get("psi") or {}
    for feature, value in psi.items():
        gauges.add("airloop_interval_drift_psi", "Population stability index against the reference.", value, model=model, interval=key, feature=feature)  # fmt: skip
    gauges.add("airloop_interval_alarms", "What the monitor wants a person to look at.", len(seen.get("alarms", [])), model=model, interval=key)  # fmt: skip
    advised = bool((seen.get("audit") or {}).get("rollback"))
    gauges.add(
        "airloop_interval_rollback_advised", "Whether the model before was better.", advised, model=model, interval=key
    )


def _gate(model: str, interval: str, run: str, gate: dict[str, Any], gauges: Sink) -> None:
    labels = {"model": model, "interval": interval, "run": run, "verdict": gate["verdict"]}
    gauges.add("airloop_gate_passed", "Whether a candidate passed the gate.", gate["passed"], **labels)
    gauges.add(
        "airloop_gate_failures",
        "What spoke against a candidate.",
        len(gate["failures"]),
        model=model,
        interval=interval,
        run=run,
    )
    gain = (gate.get("promotion") or {}).get("d_log_loss") or {}
    for bound in ("mean", "lo", "hi"):
        gauges.add("airloop_gate_log_loss_gain", "Log loss of the champion less the candidate's.", gain.get(bound), model=model, interval=interval, run=run, bound=bound)  # fmt: skip
