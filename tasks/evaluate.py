"""evaluate: measures the candidate and the champion on the same rows, and decides nothing.

Golden rows say whether a model is fit at all; decision days, which neither model trained on, say which is better.
Everything measured is a file of ``evaluation/`` with equal bytes when done again; the clock's own measurements go to
``latency.json`` beside it.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks import spec
from tasks.core.errors import DataError, run_main
from tasks.modelling import model as models
from tasks.modelling.golden_rows import digest
from tasks.modelling.latency import measure
from tasks.modelling.model import Matrix, Model
from tasks.modelling.model_report import render
from tasks.modelling.stats import metrics, reliability
from tasks.modelling.tables import INTERVAL, held_out, labelled, read_features
from tasks.settings import params
from tasks.settings.gate_params import Behaviour
from tasks.settings.params import Params
from tasks.settings.value_types import DayRule
from tasks.storage.artefacts import sha256, to_json, write_atomic
from tasks.storage.files import parquet_bytes
from tasks.training import quantise
from tasks.training.families import named


@dataclass(frozen=True)
class Rows:
    """Feature rows with known outcomes; ``labels`` int8 [n]."""

    table: pa.Table
    labels: np.ndarray[Any, np.dtype[np.int8]]

    @classmethod
    def of(cls, table: pa.Table) -> Rows:
        """Rows of a table that has the label column, without nulls."""
        return cls(table, table[spec.current().label].to_numpy().astype(np.int8))


def golden_rows(features: pa.Table, frozen: pa.Table) -> tuple[Rows, dict[str, Any]]:
    """Features of the frozen golden keys with their frozen labels, in frozen order, and what was found of them."""
    model = spec.current()
    numbered = frozen.append_column("golden_index", pa.array(range(frozen.num_rows), pa.int64()))
    found = features.rename_columns({model.label: "label_now"}).join(numbered, keys=list(model.key), join_type="inner")
    found = found.sort_by("golden_index")
    relabelled = pc.sum(pc.fill_null(pc.not_equal(found["label_now"], found[model.label]), True)).as_py()
    facts = {
        "digest": digest(frozen.to_pylist(), model),
        "rows": frozen.num_rows,
        "without_features": frozen.num_rows - found.num_rows,
        "relabelled_since": int(relabelled or 0),
    }
    return Rows.of(found), facts


def judge(model: Model, golden: Rows, decision: Rows, settings: Params) -> tuple[dict[str, Any], Matrix, Matrix]:
    """What is measured of candidate and champion alike, and their probabilities of golden and decision rows."""
    bins = settings.evaluate.calibration_bins
    on_golden, on_decision = model.score(golden.table), model.score(decision.table)
    interval = np.asarray(decision.table[INTERVAL])
    found = {
        "model": model.sha256,
        "contract": sha256(model.contract.to_bytes()),
        "features": list(model.contract.names),
        "golden": metrics(golden.labels, on_golden, bins),
        "slices": {
            c: by_value(np.asarray(golden.table[c]), golden.labels, on_golden, bins) for c in settings.gate.slices
        },
        "reliability": [] if np.isnan(on_golden).any() else reliability(golden.labels, on_golden, bins),
        "behaviour": {
            name: behave(model, golden.table, on_golden, check) for name, check in settings.gate.behaviour.items()
        },
        "decision": metrics(decision.labels, on_decision, bins),
        "intervals": by_value(interval, decision.labels, on_decision, bins),
    }
    return found, on_golden, on_decision


def by_value(column: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], scores: Matrix, bins: int) -> dict[str, Any]:
    """Metrics of the rows of each value of ``column``."""
    return {str(v): metrics(labels[column == v], scores[column == v], bins) for v in sorted(set(column.tolist()))}


def behave(model: Model, table: pa.Table, before: Matrix, check: Behaviour) -> dict[str, float | list[str] | None]:
    """Mean change of the score, and the share of rows that do not fall, when the inputs change as ``check`` says."""
    names = model.contract.names
    if absent := sorted({*check.set, *check.add} - set(names)):
        return {"absent": absent, "shift": None, "share_up": None}
    x = model.contract.encode(table)
    for name, value in check.set.items():
        x[:, names.index(name)] = value
    for name, value in check.add.items():
        x[:, names.index(name)] += np.float32(value)
    change = model.predict(x).astype(np.float64) - before
    if not len(change) or np.isnan(change).any():
        return {"absent": [], "shift": None, "share_up": None}
    return {"absent": [], "shift": float(change.mean()), "share_up": float((change >= 0).mean())}


def quantised(plain: Model | None, model: Model, golden: pa.Table, scores: Matrix) -> dict[str, float] | None:
    """What INT8 changed, on golden rows: ``gap`` to the plain model, and ``batch_gap`` to each row alone; None if it did not."""
    if plain is None:
        return None
    x = model.contract.encode(golden)
    return {"gap": quantise.gap(plain.predict(x), scores), "batch_gap": quantise.batch_gap(model, x, scores)}


def parity_gap(own: Matrix, scores: Matrix) -> float | None:
    """Largest absolute difference between the ONNX ``scores`` and the family's own of the same rows; None with NaN."""
    gap = np.abs(own.astype(np.float64) - scores).max(initial=0.0)
    return None if np.isnan(gap) else float(gap)


def read_champion(folder: Path) -> tuple[dict[str, Any], Model | None]:
    """champion.json and its model (None where nobody is live); the facts hold ``error`` when it cannot be read."""
    try:
        facts: dict[str, Any] = json.loads((folder / "champion.json").read_bytes())
        if facts["version"] is None:
            return facts, None
        content, contract = (folder / "model.onnx").read_bytes(), (folder / "contract.json").read_bytes()
        return facts, models.load(content, contract, facts["model"])
    except (OSError, ValueError, KeyError, DataError) as error:
        return {"version": None, "error": f"{type(error).__name__}: {error}"}, None


@dataclass(frozen=True)
class Candidate:
    """What training left."""

    model: Model
    training: dict[str, Any]
    """metrics.json."""
    native: bytes
    """The family's own format."""
    plain: Model | None
    """The model before it was quantised, where INT8 ships."""

    def parity_gap(self, golden: pa.Table, scores: Matrix) -> float | None:
        """Between the family's own format and the ONNX file that it became, before it was quantised."""
        x = self.model.contract.encode(golden)
        own = named(self.training["family"]).predict(self.native, x)
        return parity_gap(own, scores if self.plain is None else self.plain.predict(x))


def read_candidate(folder: Path) -> Candidate:
    """The trained model; DataError when a file is missing or damaged."""
    try:
        content, contract = (folder / "model.onnx").read_bytes(), (folder / "contract.json").read_bytes()
        model = models.load(content, contract, sha256(content))
        facts = json.loads((folder / "metrics.json").read_bytes())
        plain = None
        if facts.get("export", {}).get("shipped") == quantise.INT8:
            before = (folder / "plain.onnx").read_bytes()
            signed = model.contract.model_copy(update={"onnx_sha256": sha256(before)})
            plain = models.load(before, signed.to_bytes(), sha256(before))
        return Candidate(model, facts, (folder / named(facts["family"]).NATIVE).read_bytes(), plain)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{folder} holds no whole model ({error}); run the train stage again.") from None


def evaluate(settings: Params, root: Path = Path()) -> dict[str, bytes]:
    """Measure everything; returns the files of the evaluation folder by name."""
    found = read_candidate(root / "model")
    candidate, training = found.model, found.training
    champion_facts, champion = read_champion(root / "champion")
    intervals = sorted({*settings.intervals, *settings.golden.intervals})
    about = spec.current()
    features = read_features(
        intervals,
        list(dict.fromkeys((*about.key, "day", about.label, *about.features))),
        root / "data/features",
        labels_through=intervals[-1],
        keyed=True,
    )
    golden, golden_facts = golden_rows(features, pq.read_table(root / "golden/golden.parquet"))
    in_window = pc.is_in(features[INTERVAL], value_set=pa.array(sorted(settings.intervals)))
    new_to_both = kept_from_both(features.filter(in_window), settings.holdout, champion_facts)
    decision = Rows.of(labelled(new_to_both, about.label))

    measured, on_golden, on_decision = judge(candidate, golden, decision, settings)
    measured |= {
        "data_through": training["data_through"],
        "training": training,
        "parity_gap": found.parity_gap(golden.table, on_golden),
        "quantised": quantised(found.plain, candidate, golden.table, on_golden),
    }
    theirs, champion_scores = champion_facts, None
    if champion is not None:
        try:
            rival, _, champion_scores = judge(champion, golden, decision, settings)
            theirs = champion_facts | rival
        except DataError as error:
            theirs = {"version": None, "error": str(error)}
    files = {
        "decision.parquet": decision_file(decision, on_decision, champion_scores),
        "smoke.json": to_json(
            smoke_rows(golden.table, on_golden, settings.evaluate.smoke_rows, _tolerance(found, settings))
        ),
    }
    report = {
        "candidate": measured,
        "champion": theirs,
        "golden": golden_facts,
        "decision": {
            "sha256": sha256(files["decision.parquet"]),
            "rows": decision.table.num_rows,
            "days": len(pc.unique(decision.table["day"])),
            "rule": settings.holdout.model_dump(),
        },
        "calibration_bins": settings.evaluate.calibration_bins,
    }
    return files | {"evaluation.json": to_json(report), "report.html": render(report).encode()}


def kept_from_both(rows: pa.Table, rule: DayRule, champion: dict[str, Any]) -> pa.Table:
    """Rows of the days that neither model trained on: the candidate was kept from those of ``rule``, the champion from its own.

    Where the champion's are not recorded, the candidate's alone, which the gate refuses to compare on.
    """
    ours = held_out(rows, rule)
    theirs = champion.get("holdout")
    return ours if theirs is None else held_out(ours, DayRule.model_validate(theirs))


def decision_file(rows: Rows, candidate: Matrix, champion: Matrix | None) -> bytes:
    """decision.parquet: what the comparison of the two models rests on, a row each."""
    none = pa.nulls(len(candidate), pa.float32())
    table = pa.table(
        {
            "day": rows.table["day"],
            "interval": rows.table[INTERVAL],
            spec.current().label: pa.array(rows.labels),
            "p_candidate": pa.array(candidate),
            "p_champion": none if champion is None else pa.array(champion),
        }
    )
    return parquet_bytes(table)


def _tolerance(found: Candidate, settings: Params) -> dict[str, float]:
    """By how much a service may answer otherwise, where it may more than usual: a quantised model by a row's neighbours."""
    return {} if found.plain is None else {"tolerance": settings.export.max_batch_gap}


def smoke_rows(golden: pa.Table, scores: Matrix, count: int, more: dict[str, float]) -> list[dict[str, Any]]:
    """``count`` golden rows, evenly spread, with what the service is asked with, the candidate's probability, and ``more``.

    Their features are kept as well, so that a model can be tried where no interval has landed.
    """
    picked = np.unique(np.linspace(0, max(len(scores) - 1, 0), min(count, len(scores))).astype(np.int64))
    rows, model = golden.take(pa.array(picked)).to_pylist(), spec.current()
    return [
        {name: row[name] for name in model.asked}
        | {"features": {name: _known(row[name]) for name in model.features}, "probability": _known(float(p))}
        | more
        for row, p in zip(rows, scores[picked], strict=True)
    ]


def _known(value: Any) -> Any:
    """``value``, and None for NaN, which JSON has not."""
    return None if value != value else value  # noqa: PLR0124 - only NaN differs from itself


def main() -> None:
    """Measure this run's model against the golden rows and the champion."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    settings = params.load()
    files = evaluate(settings)
    for name, content in files.items():
        write_atomic(Path("evaluation") / name, content)
    candidate = read_candidate(Path("model")).model
    features = read_features([max(settings.intervals)])
    write_atomic(Path("latency.json"), to_json(measure(candidate, features, settings.evaluate.latency_rows)))
    report = json.loads(files["evaluation.json"])
    golden, rival = report["candidate"]["golden"], report["champion"]
    against = f"champion v{rival['version']}" if rival["version"] is not None else rival.get("error", "no champion")
    print(
        f"evaluate: golden AUC {golden['auc']}, ECE {golden['ece']} on {golden['n']} rows; "
        f"{report['decision']['rows']} rows of {report['decision']['days']} decision days; {against}"
    )


if __name__ == "__main__":
    run_main(main)
