"""monitor: a landed interval's labels meet its predictions; measure, report, decide whether to retrain."""

from __future__ import annotations

import argparse
import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tasks import spec
from tasks.core.errors import DataError, run_main
from tasks.core.results import emit
from tasks.landing import landed, landed_index
from tasks.modelling import label_view
from tasks.modelling.tables import FEATURES, read_features
from tasks.monitoring import audit, decide, drift, measure, page, quality, track
from tasks.registry import ledger
from tasks.settings import params
from tasks.settings.environment import environment, store, trigger
from tasks.settings.params import Params
from tasks.storage import lists
from tasks.storage.artefacts import Store, sha256, to_json


@dataclass(frozen=True)
class Before:
    """An interval before, which the champion of the one at hand scored too."""

    interval: str
    features: pa.Table
    digest: str
    """md5 of the features file."""
    labels: str
    """Digest of its labels as of the interval at hand."""
    predictions: tuple[str, pa.Table]
    """Digest and table of the champion's predictions."""


@dataclass(frozen=True)
class Inputs:
    """What one interval's monitoring reads."""

    interval: str
    features: pa.Table
    digest: str
    """md5 of the features file, as in dvc.lock."""
    labels: str
    """Digest of the labels as of the interval (``labels_digest``)."""
    reference: dict[str, str]
    """Earlier reference intervals to the digests of their features."""
    champion: int | None
    shadow: int | None
    predictions: dict[int, tuple[str, pa.Table]]
    """Version to the digest and the table of its predictions."""
    before: tuple[Before, ...] = ()
    """What is judged with it, newest first."""

    def summary(self) -> dict[str, Any]:
        """Digests of all of it."""
        names = {f"v{version}": digest for version, (digest, _) in sorted(self.predictions.items())}
        judged = {one.interval: [one.digest, one.labels, one.predictions[0]] for one in self.before}
        own = {"features": self.digest, "labels": self.labels}
        return own | {"reference": self.reference, "predictions": names, "judged_with": judged}


def read(interval: str, settings: Params, where: Store) -> Inputs:
    """Features from the workspace, predictions from the store; DataError when the interval was not scored on these features."""
    try:
        scored = where.read_json(f"predictions/{interval}/scored.json")
    except FileNotFoundError:
        raise DataError(
            f"{interval} has not been scored. Run the score DAG for it: {trigger('score', interval)}."
        ) from None
    file = FEATURES / f"{interval}.parquet"
    features = read_features([interval], labels_through=interval)
    digest, labels = landed.features_digest(file), labels_digest(file, interval)
    if scored["features"] != digest:
        raise DataError(
            f"{interval} was scored on features {scored['features'][:12]}..., and {digest[:12]}... are here: the interval has landed "
            f"again since. Run the score DAG for it: {trigger('score', interval)}."
        )
    reference = {
        m: landed.features_digest(path)
        for m in sorted(settings.golden.intervals)
        if m < interval and (path := FEATURES / f"{m}.parquet").is_file()
    }
    champion, shadow = scored.get("champion"), scored.get("previous")
    digests = scored.get("predictions", {})
    predictions = {
        v: _predictions(where, interval, v, digests.get(f"v{v}")) for v in (champion, shadow) if v is not None
    }
    before = tuple(_before(interval, champion, settings, where))
    return Inputs(interval, features, digest, labels, reference, champion, shadow, predictions, before)


def labels_digest(features: Path, through: str) -> str:
    """md5 over the label files that count for a features file as of ``through``: their intervals and their own digests."""
    read = {path.stem: lists.digest(path.read_bytes()) for path in label_view.files(features, through)}
    return lists.digest(to_json(read))


def _before(interval: str, champion: int | None, settings: Params, where: Store) -> Iterator[Before]:
    """The intervals before that are judged with ``interval``: unbroken, as they are now, and scored by its champion."""
    through = interval
    for _ in range(1, settings.monitor.window_intervals):
        interval = spec.current().cadence.shift(interval, -1)
        path = FEATURES / f"{interval}.parquet"
        name = f"predictions/{interval}/scored.json"
        scored = where.read_json(name) if path.is_file() and where.exists(name) else {}
        if champion is None or scored.get("champion") != champion:
            return
        digest = landed.features_digest(path)
        if scored["features"] != digest:
            return
        found = _predictions(where, interval, champion, scored["predictions"][f"v{champion}"])
        features, labels = read_features([interval], labels_through=through), labels_digest(path, through)
        yield Before(interval, features, digest, labels, found)


def examine(inputs: Inputs, settings: Params, entries: list[ledger.Entry]) -> dict[str, Any]:
    """Everything that is measured, the same bytes for the same inputs: monitor.json without its decision."""
    scores = {
        version: measure.match(inputs.features, table, f"predictions/{inputs.interval}/v{version}.parquet")
        for version, (_, table) in inputs.predictions.items()
    }
    judged = {inputs.champion: _judged(inputs, scores)} if inputs.champion is not None else {}
    if inputs.shadow is not None:
        judged[inputs.shadow] = (inputs.features, scores[inputs.shadow])
    models = {
        who: {"version": version} | measure.measure(*judged[version], settings) if version in judged else None
        for who, version in (("champion", inputs.champion), ("shadow", inputs.shadow))
    }
    reference = read_features(inputs.reference) if inputs.reference else None
    found = quality.compare(reference, inputs.features)
    rows, about = len(inputs.features), spec.current()
    audited = None
    if (
        inputs.champion is not None
        and inputs.shadow is not None
        and audit.promotion(entries, inputs.interval, inputs.champion)
    ):
        pair = ((inputs.champion, scores[inputs.champion]), (inputs.shadow, scores[inputs.shadow]))
        audited = audit.audit(inputs.features, *pair, settings)
    unusable = [
        f"v{version} gave no probability for {missing} of {rows} {about.words.rows}; see its input and roll it back if it is the model"
        for version, found_scores in scores.items()
        if (missing := int((~measure.usable(found_scores)).sum()))
    ]
    return {
        "interval": inputs.interval,
        "status": "scored" if inputs.champion is not None else "warming up",
        "inputs": inputs.summary(),
        "rows": rows,
        "labelled_share": 1 - inputs.features[about.label].null_count / rows if rows else 0.0,
        **models,
        "confidence": settings.gate.promotion.confidence,
        "quality": found,
        "quality_limits": settings.monitor.model_dump(include={"max_psi", "max_blind_share"}),
        "alarms": unusable + quality.alarms(found, settings.monitor),
        "audit": audited,
    }


def _judged(inputs: Inputs, scores: dict[int, measure.Scores]) -> tuple[pa.Table, measure.Scores]:
    """Rows and the champion's scores of all intervals that are judged together, oldest first."""
    assert inputs.champion is not None
    about = spec.current()
    measured = list(dict.fromkeys((*about.key, about.date, "day", about.label)))  # an older checkout may lack a feature
    pairs = [
        (
            one.features,
            measure.match(one.features, one.predictions[1], f"predictions/{one.interval}/v{inputs.champion}.parquet"),
        )
        for one in reversed(inputs.before)
    ]
    pairs.append((inputs.features, scores[inputs.champion]))
    return pa.concat_tables([table.select(measured) for table, _ in pairs]), np.concatenate(
        [found for _, found in pairs]
    )


def settle(report: dict[str, Any], settings: Params, where: Store, entries: list[ledger.Entry]) -> decide.Decision:
    """The decision about what was measured, recorded; the one recorded before, if the same was decided already."""
    champion = report["champion"] or {}
    facts = decide.Facts(
        interval=report["interval"], features=report["inputs"]["features"], labels=report["inputs"]["labels"], champion=champion.get("version"),
        auc=(champion.get("auc") or {}).get("value"), ece=(champion.get("ece") or {}).get("value"), why_not=champion.get("why_not"),
        judged_with=sha256(to_json(judged)) if (judged := report["inputs"]["judged_with"]) else "",
    )  # fmt: skip
    if found := decide.recorded(where, facts):
        return found
    live = entries[-1].evidence if entries else None
    asked = decide.asked_before(where, facts.interval)
    since = landed_index.read(where).between(max(asked), facts.interval) if asked else ()
    past = decide.Past(
        landed=tuple(item.interval for item in since), asked=asked,
        live_through=live.labelled_through if live else None,
    )  # fmt: skip
    return decide.record(where, decide.decide(facts, past, settings.monitor))


def monitor(interval: str, settings: Params, where: Store, run: str) -> dict[str, Any]:
    """Watch ``interval``: reports and decision in the store, numbers in MLflow; returns the result for the orchestrator."""
    inputs = read(interval, settings, where)
    folder = f"reports/{interval}"
    with ExitStack() as stack:
        process, out = None, Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="airloop-"))) / "drift.html"
        mark = _mark(inputs, settings)
        drawn, problem = _drawn(where, f"{folder}/drift.html", mark), _no_picture(inputs)
        if not drawn and not problem:
            process = stack.enter_context(
                drift.drawing(
                    interval, list(inputs.reference), settings.monitor.report_rows, settings.gate.promotion.seed, out
                )
            )
        entries = ledger.Ledger(where).entries()
        report = examine(inputs, settings, entries)
        decision = settle(report, settings, where, entries)
        holder = decide.claim(where, decision, run)
        report["decision"] = decision.model_dump()
        if process:
            drawn, problem = drift.finish(process, out)
            drawn += mark
    pages = publish(where, folder, report, drawn, problem)
    track.log(report, pages, environment().mlflow_tracking_uri)
    fire = decision.retrain and holder is None
    reason = decision.reason if holder is None else f"{decision.reason}: {holder} asked for the retrain already"
    print(line(report, fire, reason), flush=True)
    for alarm in report["alarms"]:
        print(f"alarm: {alarm}", flush=True)
    if report["audit"]:
        print(
            f"audit: {report['audit']['sentence']}"
            + (f" {report['audit']['command']}" if report["audit"]["rollback"] else ""),
            flush=True,
        )
    return result(report, fire, reason)


def publish(where: Store, folder: str, report: dict[str, Any], drawn: bytes, problem: str) -> dict[str, bytes]:
    """Put the pages into the store, monitor.json last: where it is, the others are. Returns the pages."""
    pages = {"index.html": page.render(report, problem).encode()}
    if not problem:
        pages["drift.html"] = drawn
    for name in sorted(pages):
        where.write(f"{folder}/{name}", pages[name])
    where.write_json(f"{folder}/monitor.json", report)
    return pages


def line(report: dict[str, Any], fire: bool, reason: str) -> str:
    """One line for people: the interval, its measures, what follows."""
    champion, limits = report["champion"], report["decision"]["limits"]
    outcome = report["decision"]["outcome"]
    if not champion or champion["why_not"]:
        return f"{report['interval']}: {reason}" + (": retrain" if fire else "")
    auc, loss, ece = (champion[name]["value"] for name in ("auc", "log_loss", "ece"))
    measures = f"AUC {auc:.3f}" + (f" < {limits['min_auc']:g}" if auc < limits["min_auc"] else "")
    measures += f", log loss {loss:.3f}, ECE {ece:.4f}" + (
        f" > {limits['max_ece']:g}" if ece > limits["max_ece"] else ""
    )
    end = "retrain" if fire else "within limits" if outcome == "keep" else f"no retrain: {reason}"
    return f"{report['interval']}: {measures} (v{champion['version']}): {end}"


def result(report: dict[str, Any], fire: bool, reason: str) -> dict[str, Any]:
    """The result for the orchestrator: names and numbers; ``retrain`` only if this run is to ask for it."""
    champion, decision = report["champion"] or {}, report["decision"]
    values = {name: (champion.get(name) or {}).get("value") for name in ("auc", "log_loss", "ece")}
    return values | {
        "interval": report["interval"],
        "status": decision["outcome"],
        "retrain": fire,
        "reason": reason,
        "champion": champion.get("version"),
        "features": report["inputs"]["features"],
        "rows": report["rows"],
        "alarms": report["alarms"],
        "rollback": report["audit"]["command"] if report["audit"] else None,
        "report": f"reports/{report['interval']}/index.html",
    }


def _no_picture(inputs: Inputs) -> str:
    """Why there is nothing for Evidently to draw, empty when there is."""
    if inputs.champion is None:
        return "no model is live yet, so there is nothing to watch"
    return "" if inputs.reference else "there is no earlier reference interval"


def _mark(inputs: Inputs, settings: Params) -> bytes:
    """Ends Evidently's page and says what it was drawn from."""
    source = [
        inputs.digest,
        inputs.labels,
        inputs.reference,
        settings.monitor.report_rows,
        settings.gate.promotion.seed,
    ]
    return f"\n<!-- drawn from {sha256(to_json(source))} -->\n".encode()


def _drawn(where: Store, name: str, mark: bytes) -> bytes:
    """Evidently's page if it is there and of the same inputs, else nothing: drawing it takes most of the time."""
    try:
        page_before = where.read(name)
    except FileNotFoundError:
        return b""
    return page_before if page_before.endswith(mark) else b""


def _predictions(where: Store, interval: str, version: int, digest: str | None) -> tuple[str, pa.Table]:
    name = f"predictions/{interval}/v{version}.parquet"
    try:
        data = where.read(name, digest)
        return sha256(data), pq.read_table(io.BytesIO(data))
    except FileNotFoundError:
        problem = "is missing"
    except pa.ArrowInvalid as error:
        problem = f"cannot be read ({error})"
    raise DataError(
        f"{where.uri(name)} {problem}, though {interval} is recorded as scored by v{version}; run the score DAG for it."
    )


def main() -> None:
    """Monitor one interval."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--interval", required=True, help="the scored interval to look at")
    interval = parser.parse_args().interval
    emit(monitor(interval, params.load(), store(), os.environ.get("AIRLOOP_RUN", "")))


if __name__ == "__main__":
    run_main(main)
