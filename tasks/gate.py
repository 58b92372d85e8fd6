"""gate: decides whether the candidate replaces the champion, from what evaluate measured, and says why.

It loads no model. Whatever it cannot judge counts against the candidate: a number that is missing or NaN, a golden set
that nobody pinned, a champion that cannot be read. The verdict lists everything that failed, not the first.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tasks import spec
from tasks.core.errors import ConfigError, run_main
from tasks.core.results import emit
from tasks.modelling.stats import Comparison, compare
from tasks.settings import params, policy
from tasks.settings.data_params import GoldenParams
from tasks.settings.gate_params import Behaviour, GateParams, PromotionParams
from tasks.settings.training_params import ExportParams
from tasks.storage.artefacts import sha256, to_json, write_atomic

Report = Mapping[str, Any]

OPTIMISM = (
    "Decision days lie between the candidate's training days, those of the newest interval also between days that the "
    "champion never saw, and so may flatter the candidate. The numbers are what was measured on past pairs: the mean of "
    "the difference on decision days less that of the following interval (docs/decision-days.md). Nothing is subtracted; the "
    "audit of the next interval's labels says who was right."
)


@dataclass
class Findings:
    """What speaks against the candidate, and what a reader should know besides."""

    unfit: list[str] = field(default_factory=list)
    """Reasons for which it must not go live whoever is champion."""
    not_better: list[str] = field(default_factory=list)
    """Reasons for which the champion stays."""
    warnings: list[str] = field(default_factory=list)
    comparison: Comparison | None = None


def at_least(name: str, got: Any, limit: float) -> Iterator[str]:
    """A sentence if ``got`` is no number or below ``limit``."""
    if not _number(got):
        yield f"{name}: not measured (got {got!r}), required at least {limit:g}"
    elif not got >= limit:
        yield f"{name}: {got:.4f}, required at least {limit:g}"


def at_most(name: str, got: Any, limit: float) -> Iterator[str]:
    """A sentence if ``got`` is no number or above ``limit``."""
    if not _number(got):
        yield f"{name}: not measured (got {got!r}), required at most {limit:g}"
    elif not got <= limit:
        yield f"{name}: {got:.4g}, required at most {limit:g}"


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def golden_set(report: Report, settings: GoldenParams) -> Iterator[str]:
    """Whether the golden set is the pinned one, and all of it was measured."""
    golden = report["golden"]
    if settings.digest is None:
        yield f"golden set: not pinned; set golden.digest: {golden['digest']} in the model's params.yaml once you have looked at it"
    elif golden["digest"] != settings.digest:
        yield (
            f"golden set: digest {golden['digest']}, required the pinned {settings.digest}; find out what changed "
            "the golden intervals (were they landed again?) before pinning another"
        )
    if golden["rows"] != settings.rows:
        yield f"golden set: {golden['rows']} rows, required {settings.rows}"
    if golden["without_features"] != 0:
        yield f"golden set: {golden['without_features']} rows without exactly one feature row, required 0"
    measured = report["candidate"]["golden"]["n"]
    if measured != golden["rows"] or not measured:
        yield f"golden set: measured on {measured} rows, required all {golden['rows']} and more than none"


def floors(report: Report, settings: GateParams) -> Iterator[str]:
    """Absolute limits on the golden set, slices included."""
    candidate = report["candidate"]
    for part in ("golden", "decision"):
        if candidate[part]["nan"] != 0:
            yield f"{part} rows: {candidate[part]['nan']} scores are NaN, required 0"
    yield from at_least("golden auc", candidate["golden"]["auc"], settings.floors.auc)
    yield from at_most("golden ece", candidate["golden"]["ece"], settings.floors.ece)
    yield from at_most("onnx parity gap", candidate["parity_gap"], settings.max_parity_gap)
    for column, floor in settings.slices.items():
        values = candidate["slices"].get(column, {})
        judged = {value: m for value, m in values.items() if m["n"] >= floor.min_rows}
        if not judged:
            yield f"slices by {column}: no value has {floor.min_rows} golden rows, so none is judged"
        for value, found in judged.items():
            yield from at_least(f"golden auc of {column} {value} (n={found['n']})", found["auc"], floor.min_auc)


def quantised(report: Report, settings: ExportParams) -> Iterator[str]:
    """Limits of what INT8 may change, where an INT8 model ships; the parity above is then that of the plain model before it."""
    candidate = report["candidate"]
    if candidate["training"].get("export", {}).get("shipped", "plain") == "plain":
        return
    found = candidate.get("quantised") or {}
    yield from at_most("int8 less plain score", found.get("gap"), settings.max_gap)
    yield from at_most("int8 score alone less in a batch", found.get("batch_gap"), settings.max_batch_gap)


def behaviour(report: Report, checks: Mapping[str, Behaviour]) -> Iterator[str]:
    """Whether the score follows changes with a known direction."""
    for name, check in checks.items():
        found = report["candidate"]["behaviour"].get(name)
        if found is None or found["absent"]:
            missing = "" if found is None else f": the model lacks {', '.join(found['absent'])}"
            yield f"behaviour {name}: not measured{missing}"
            continue
        limits = (check.min_shift, check.max_shift, check.min_share_up)
        if limits == (None, None, None):
            yield f"behaviour {name}: the model's params.yaml sets no limit"
        if check.min_shift is not None:
            yield from at_least(f"behaviour {name}, mean shift", found["shift"], check.min_shift)
        if check.max_shift is not None:
            yield from at_most(f"behaviour {name}, mean shift", found["shift"], check.max_shift)
        if check.min_share_up is not None:
            yield from at_least(f"behaviour {name}, share not falling", found["share_up"], check.min_share_up)


def newest_days(decision: pa.Table, count: int) -> pa.Table:
    """Rows of the ``count`` newest decision days."""
    days = np.asarray(decision["day"])
    newest = np.unique(days)[-count:]
    return decision.filter(pa.array(np.isin(days, newest)))


def promotion(report: Report, decision: pa.Table, settings: PromotionParams, found: Findings) -> None:
    """Compare with the champion on the newest decision days; adds to ``found`` what it finds."""
    champion, candidate = report["champion"], report["candidate"]
    name = f"champion v{champion['version']}"
    if candidate["data_through"] < champion["data_through"]:
        found.unfit.append(
            f"data: trained through {candidate['data_through']}, {name} through {champion['data_through']}; "
            "an older model never replaces a newer one"
        )
    if champion["holdout"] is None:
        found.unfit.append(
            f"decision days: {name} has no record of the days that it was kept from, so none is known to be new to both; restore "
            "its record, or roll back to a version that has one"
        )
    rows = newest_days(decision, settings.max_days)
    days = len(np.unique(np.asarray(rows["day"])))
    if days < settings.min_days:
        found.not_better.append(
            f"decision days: {days} that both were kept from, required {settings.min_days} to compare with {name}"
        )
        return
    ours, theirs = (np.asarray(rows[c], dtype=np.float64) for c in ("p_candidate", "p_champion"))
    labels = np.asarray(rows[spec.current().label])
    if np.isnan(theirs).any():
        found.unfit.append(f"decision rows: {name} has no score for {int(np.isnan(theirs).sum())} rows, required 0")
    if np.isnan(ours).any() or np.isnan(theirs).any() or len(np.unique(labels)) != 2:
        found.not_better.append(f"decision days: no comparison with {name} is possible on them")
        return
    outcome = compare(
        np.asarray(rows["day"]),
        labels,
        ours,
        theirs,
        resamples=settings.resamples,
        confidence=settings.confidence,
        seed=settings.seed,
    )
    found.comparison = outcome
    level = f"{settings.confidence:.0%} interval over {days} days"
    if not outcome.d_log_loss.hi < 0:
        found.not_better.append(f"log loss less {name}'s: {_interval(outcome.d_log_loss)} ({level}), required below 0")
    if not outcome.d_auc.lo >= -settings.max_auc_loss:
        found.not_better.append(
            f"auc less {name}'s: {_interval(outcome.d_auc)} ({level}), "
            f"required no lower end below -{settings.max_auc_loss:g}"
        )


def _interval(value: Any) -> str:
    return f"{value.mean:+.4f} [{value.lo:+.4f}, {value.hi:+.4f}]"


def judge(report: Report, decision: pa.Table, settings: GateParams, golden: GoldenParams) -> Findings:
    """Everything that speaks against the candidate."""
    found = Findings()
    found.unfit += [*golden_set(report, golden), *floors(report, settings), *behaviour(report, settings.behaviour)]
    if not settings.behaviour:
        found.warnings.append("the model's params.yaml has no behavioural checks (gate.behaviour)")
    if report["golden"]["relabelled_since"]:
        found.warnings.append(
            f"{report['golden']['relabelled_since']} golden rows have another label in the features now"
        )
    champion = report["champion"]
    if champion.get("error"):
        found.unfit.append(f"champion: cannot be read ({champion['error']}), so nothing may replace it")
    elif champion["version"] is not None:
        if champion["model"] == report["candidate"]["model"]:
            found.warnings.append(f"the candidate is the champion v{champion['version']}, byte for byte")
        promotion(report, decision, settings.promotion, found)
    return found


def verdict(report: Report, found: Findings, settings: GateParams, evidence: dict[str, Any]) -> dict[str, Any]:
    """gate.json."""
    failures = found.unfit + found.not_better
    word = "refused" if found.unfit else "keep champion" if found.not_better else "promote"
    compared = found.comparison
    return {
        "passed": not failures,
        "verdict": word,
        "summary": summarise(report, word, failures, compared),
        "failures": failures,
        "warnings": found.warnings,
        "promotion": None
        if compared is None
        else asdict(compared)
        | {
            "against": report["champion"]["version"],
            "optimism": settings.promotion.optimism.model_dump() | {"note": OPTIMISM},
        },
        "evidence": evidence,
        "params": settings.model_dump(mode="json"),
    }


def summarise(report: Report, word: str, failures: list[str], compared: Comparison | None) -> str:
    """The verdict in one line."""
    if word == "promote":
        golden = report["candidate"]["golden"]
        floors_met = f"golden auc {golden['auc']:.3f}, ece {golden['ece']:.3f}"
        if compared is None:
            return f"first champion: {floors_met}, every floor met"
        return f"better than v{report['champion']['version']}: log loss {_interval(compared.d_log_loss)}; {floors_met}"
    more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
    return f"{word}: {failures[0]}{more}"


def refuse(reason: str, evidence: dict[str, Any]) -> dict[str, Any]:
    """gate.json where there was nothing to judge with or by."""
    return {
        "passed": False,
        "verdict": "refused",
        "summary": f"refused: {reason}",
        "failures": [reason],
        "warnings": [],
        "promotion": None,
        "evidence": evidence,
        "params": None,
    }


def decide(root: Path = Path()) -> dict[str, Any]:
    """gate.json of the workspace ``root``; whatever is missing or unreadable there is a refusal."""
    evidence: dict[str, Any] = {}
    try:
        settings = params.load(root)
        content = (root / "evaluation/evaluation.json").read_bytes()
        rows = (root / "evaluation/decision.parquet").read_bytes()
        report = json.loads(content)
        evidence = _evidence(report, content, policy.digest(root, settings.model))
        if sha256(rows) != report["decision"]["sha256"]:
            return refuse(
                "decision rows: decision.parquet is not the one evaluation.json was made with; evaluate again", evidence
            )
        found = judge(report, pq.read_table(pa.BufferReader(rows)), settings.gate, settings.golden)
        found.unfit += quantised(report, settings.export)
        return verdict(report, found, settings.gate, evidence)
    except ConfigError as error:
        return refuse(f"settings: {error}", evidence)
    except (OSError, ValueError, KeyError, TypeError) as error:
        return refuse(
            f"evaluation: incomplete or unreadable ({type(error).__name__}: {error}); evaluate again", evidence
        )


def _evidence(report: Report, content: bytes, policy_digest: str) -> dict[str, Any]:
    """Digests and versions of what was judged, and of the policy that it was judged by."""
    candidate, champion = report["candidate"], report["champion"]
    return {
        "model": candidate["model"],
        "contract": candidate["contract"],
        "data_through": candidate["data_through"],
        "evaluation": sha256(content),
        "policy": policy_digest,
        "decision": report["decision"]["sha256"],
        "golden": report["golden"]["digest"],
        "champion": {key: champion.get(key) for key in ("version", "seq", "model", "data_through")},
    }


def main() -> None:
    """Decide on this run's candidate. A refusal is a decision: the exit code is 0, and gate.json says it."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    found = decide()
    write_atomic(Path("gate/gate.json"), to_json(found))
    print(f"gate: {found['summary']}")
    for failure in found["failures"][1:]:
        print(f"gate: also {failure}")
    emit({key: found[key] for key in ("passed", "verdict", "summary", "failures")})


if __name__ == "__main__":
    run_main(main)
