"""What the gate's limits and its comparison rest on. `python -m bench.decision_days [--family xgboost]`.

A candidate through each interval from March to November, by the code and the settings of the stage `train`: what the stage
`evaluate` measures of each on the golden set, and, of each pair of a champion and a candidate one to three intervals newer, what
the gate says of their decision days beside what the interval after the candidate's says. Features and models are those of
bench.year, kept in .airloop/year. Prints Markdown: docs/decision-days.md holds it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bench.year import FIRST, LAST, WARMUP, Learnt, features
from tasks import spec
from tasks.evaluate import Rows, golden_rows, judge
from tasks.golden import freeze
from tasks.modelling.model import Matrix
from tasks.modelling.stats import Spread, auc, compare, losses, spreads
from tasks.modelling.tables import INTERVAL, held_out, labelled, read_features
from tasks.settings import params
from tasks.settings.environment import CODE, environment
from tasks.settings.params import Params
from tasks.spec import current

LONGER = 60
"""Decision days, beside those of params.yaml."""
NEWER = (1, 2, 3)
"""Intervals by which a candidate is newer than its champion."""


@dataclass(frozen=True)
class Past:
    """The year, as the gate looks back at it."""

    settings: Params
    table: pa.Table
    """Feature rows with known outcomes, of all intervals."""
    interval: np.ndarray[Any, Any]
    """Of each row."""
    scores: Mapping[str, Matrix]
    """Of each row, by the candidate through that interval."""
    golden: Mapping[str, dict[str, Any]]
    """What ``evaluate.judge`` measures, by candidate."""
    spread: Mapping[str, Spread]
    """``stats.spreads`` of the first candidate on the golden set: by days."""

    def rows(self, keep: Any) -> tuple[Any, Any]:
        """Days and labels where ``keep``."""
        return np.asarray(self.table["day"])[keep], self.table[spec.current().label].to_numpy()[keep]

    def decision(self, intervals: Sequence[str], newest: int | None = None) -> Any:
        """Which rows are the ``newest`` decision days of ``intervals``."""
        days, rule = np.asarray(self.table["day"]), self.settings.holdout
        keep = np.isin(self.interval, intervals) & (days % rule.every == rule.remainder)
        return keep if newest is None else keep & np.isin(days, np.unique(days[keep])[-newest:])


def look_back(folder: Path, settings: Params, family: str) -> Past:
    """Train what is not trained yet, and score the year with each."""
    everything = read_features(current().cadence.span(FIRST, LAST), folder=folder, labels_through=LAST, keyed=True)
    table = labelled(everything, spec.current().label)
    interval = np.asarray(table[INTERVAL])
    early = read_features(settings.golden.intervals, folder=folder, labels_through=LAST)
    golden, _ = golden_rows(early, freeze(early, settings.golden, settings.holdout))
    decision = Rows.of(held_out(table.slice(0, 20_000), settings.holdout))  # judge wants some; ours are compared below
    scores, measured = {}, {}
    spread: Mapping[str, Spread] = {}
    for through in current().cadence.span(WARMUP, current().cadence.shift(LAST, -1)):
        model = Learnt(through, folder, settings).model(family)
        scores[through] = model.score(table)
        measured[through], on_golden, _ = judge(model, golden, decision, settings)
        spread = spread or spreads(
            np.asarray(golden.table["day"]), golden.labels, on_golden, bins=settings.evaluate.calibration_bins,
            resamples=settings.gate.promotion.resamples, confidence=settings.gate.promotion.confidence, seed=settings.gate.promotion.seed,
        )  # fmt: skip
        print(f"{through}: golden AUC {measured[through]['golden']['auc']:.3f}", flush=True)
    return Past(settings, table, interval, scores, measured, spread)


def golden_table(past: Past) -> Iterator[str]:
    """Floors, slices and behaviour: what was measured beside the limit."""
    gate, found = past.settings.gate, past.golden.values()

    def seen(numbers: Sequence[float]) -> str:
        return f"{_short(min(numbers))} – {_short(max(numbers))}"

    yield "| golden set | candidates | SD among them | day-bootstrap SE of one | limit |"
    yield "|---|---|---|---|---|"
    for name, limit in (("auc", f"≥ {gate.floors.auc:g}"), ("ece", f"≤ {gate.floors.ece:g}")):
        each = [f["golden"][name] for f in found]
        yield f"| {name} | {seen(each)} | {_short(float(np.std(each, ddof=1)))} | {_short(past.spread[name].se)} | {limit} |"
    for column, floor in gate.slices.items():
        for value, first in next(iter(found))["slices"][column].items():
            if first["n"] >= floor.min_rows:
                each = [f["slices"][column][value]["auc"] for f in found]
                sd = _short(float(np.std(each, ddof=1)))
                yield f"| auc, {column} {value} (n={first['n']}) | {seen(each)} | {sd} | | ≥ {floor.min_auc:g} |"
    yield ""
    yield "| behaviour | mean shift | limit | rows not falling, least | limit |"
    yield "|---|---|---|---|---|"
    for name, check in gate.behaviour.items():
        shifts = [f["behaviour"][name]["shift"] for f in found]
        least = min(f["behaviour"][name]["share_up"] for f in found)
        limits = [f"{sign} {v:g}" for sign, v in (("≥", check.min_shift), ("≤", check.max_shift)) if v is not None]
        up = (
            "" if check.min_share_up is None else f"{least:.2f}",
            "" if check.min_share_up is None else f"≥ {check.min_share_up:g}",
        )
        yield f"| {name} | {min(shifts):+.4f} to {max(shifts):+.4f} | {' and '.join(limits)} | {up[0]} | {up[1]} |"


@dataclass(frozen=True)
class Pair:
    """A champion and a newer candidate; differences are candidate less champion."""

    past: Past
    champion: str
    candidate: str

    def difference(self, keep: Any) -> tuple[float, float]:
        """Of log loss and AUC, over the rows where ``keep``."""
        _, labels = self.past.rows(keep)
        ours, theirs = (self.past.scores[m][keep] for m in (self.candidate, self.champion))
        areas = [auc(labels, s) for s in (ours, theirs)]
        assert areas[0] is not None and areas[1] is not None
        return float(np.mean(losses(labels, ours) - losses(labels, theirs))), areas[0] - areas[1]

    @property
    def after(self) -> Any:
        """Rows of the interval after the candidate's."""
        return self.past.interval == current().cadence.shift(self.candidate, 1)

    @property
    def window(self) -> list[str]:
        """What the candidate learned from."""
        return list(current().cadence.span(FIRST, self.candidate))

    def promoted(self, newest: int) -> bool:
        """What the gate's rule says on so many decision days."""
        rule, keep = self.past.settings.gate.promotion, self.past.decision(self.window, newest)
        days, labels = self.past.rows(keep)
        found = compare(
            days, labels, self.past.scores[self.candidate][keep], self.past.scores[self.champion][keep],
            resamples=rule.resamples, confidence=rule.confidence, seed=rule.seed,
        )  # fmt: skip
        return found.d_log_loss.hi < 0 and found.d_auc.lo >= -rule.max_auc_loss


def pairs(past: Past) -> list[Pair]:
    """Every champion with each candidate that is one to three intervals newer."""
    return [
        Pair(past, champion, candidate)
        for champion in past.scores
        for newer in NEWER
        if (candidate := current().cadence.shift(champion, newer)) in past.scores
    ]


def pair_tables(past: Past) -> Iterator[str]:
    """How far decision days flatter a candidate, and what the rule would have done."""
    tried, usual = pairs(past), past.settings.gate.promotion.max_days
    sets = {
        f"the newest {usual} decision days (what the gate uses)": [past.decision(p.window, usual) for p in tried],
        f"the newest {LONGER}": [past.decision(p.window, LONGER) for p in tried],
        "only decision days of intervals new to the champion": [
            past.decision([m for m in p.window if m > p.champion]) for p in tried
        ],
    }
    truth = np.array([p.difference(p.after) for p in tried])
    yield f"| {len(tried)} pairs: difference less that of the interval after | log loss, mean (SD) | AUC, mean (SD) |"
    yield "|---|---|---|"
    for name, chosen in sets.items():
        more = np.array([p.difference(keep) for p, keep in zip(tried, chosen, strict=True)]) - truth
        (loss, area), (loss_sd, area_sd) = more.mean(axis=0), more.std(axis=0, ddof=1)
        yield f"| {name} | {loss:+.4f} ({loss_sd:.4f}) | {area:+.4f} ({area_sd:.4f}) |"
    yield ""
    yield "| decision days | promoted | of these better in the interval after (log loss) | log loss there, mean | kept, though better | log loss there, mean |"
    yield "|---|---|---|---|---|---|"
    for count in (usual, LONGER):
        said = np.array([p.promoted(count) for p in tried])
        better = truth[:, 0] < 0
        missed = ~said & better
        yield (
            f"| the newest {count} | {said.sum()} of {len(tried)} | {(said & better).sum()} of {said.sum()} | "
            f"{_mean(truth[said, 0])} | {missed.sum()} | {_mean(truth[missed, 0])} |"
        )


def _mean(values: Any) -> str:
    return f"{np.mean(values):+.4f}" if len(values) else ""


def _short(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")


def main() -> None:
    """Look back at the year."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", default="xgboost", help="whose candidates")
    family = parser.parse_args().family
    settings = params.of_model(CODE, environment().model)
    with (
        features(current().cadence.span(FIRST, LAST)) as folder,
        redirect_stdout(sys.stderr),
    ):  # trainings print their progress
        past = look_back(folder, settings, family)
    print("\n".join([*golden_table(past), "", *pair_tables(past)]))


if __name__ == "__main__":
    main()
