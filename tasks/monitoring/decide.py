"""Retrain or not: a pure rule, and records that make it once for each interval, data and champion.

The decision is a fact and is written first, under its key. The right to act on it is a second object, created by the
first run that asks: that run may say it again (a retry after a kill says what the killed try could not), no other run
may. So no request is lost between the two writes, and no key starts two trainings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from tasks.core.frozen import Frozen
from tasks.settings.monitor_params import MonitorParams
from tasks.settings.value_types import IntervalKey
from tasks.storage.artefacts import Store, to_json

Outcome = Literal["retrain", "keep", "warming up", "cooling down", "superseded", "not measured"]


@dataclass(frozen=True)
class Facts:
    """What one interval's labels say."""

    interval: str
    features: str
    """Digest of the interval's data."""
    champion: int | None
    """Version that scored the interval, None in the warm-up."""
    auc: float | None = None
    ece: float | None = None
    why_not: str | None = None
    """Why there is no AUC and ECE."""
    labels: str = ""
    """Digest of its labels, which are files of their own."""
    judged_with: str = ""
    """Digest of what was judged with the interval, where there was anything."""

    @property
    def key(self) -> str:
        """Names what was judged, within its interval."""
        return _key(self.features, self.labels, self.champion, self.judged_with)


@dataclass(frozen=True)
class Past:
    """What was there before."""

    landed: tuple[str, ...] = ()
    """Intervals that have landed since the last one that asked."""
    asked: tuple[str, ...] = ()
    """Intervals of other decisions to retrain."""
    live_through: str | None = None
    """Last interval whose labels the model now live has seen, None when nothing is live."""


class Decision(Frozen):
    """What was decided of one interval, data and champion."""

    interval: IntervalKey
    features: str
    champion: int | None
    retrain: bool
    outcome: Outcome
    reason: str
    auc: float | None
    ece: float | None
    limits: dict[str, float | int | str]
    """The settings it was decided by."""
    labels: str = ""
    """As in the facts; an older version's decision has none, whose labels were a column of the features."""
    judged_with: str = ""
    """As in the facts."""

    @property
    def key(self) -> str:
        """Names it within its interval: data, labels, champion, and what was judged with it."""
        return _key(self.features, self.labels, self.champion, self.judged_with)


def _key(features: str, labels: str, champion: int | None, judged_with: str) -> str:
    parts = (features[:12], labels[:8], "none" if champion is None else f"v{champion}", judged_with[:8])
    return "-".join(part for part in parts if part)


def breaches(facts: Facts, limits: MonitorParams) -> list[str]:
    """Every rule that asks for a retrain."""
    if facts.champion is None:
        over = facts.interval >= limits.warmup_through
        return [f"the warm-up through {limits.warmup_through} is over"] if over else []
    found = []
    if facts.ece is not None and facts.ece > limits.max_ece:
        found.append(f"ECE {facts.ece:.4f} > {limits.max_ece:g}")
    if facts.auc is not None and facts.auc < limits.min_auc:
        found.append(f"AUC {facts.auc:.4f} < {limits.min_auc:g}")
    return found


def decide(facts: Facts, past: Past, limits: MonitorParams) -> Decision:
    """Whether ``facts`` ask for a retrain, and whether anything speaks against asking now."""
    found = breaches(facts, limits)
    outcome, reason = _judge(facts, past, limits, found)
    return Decision(
        interval=facts.interval, features=facts.features, labels=facts.labels, champion=facts.champion, retrain=outcome == "retrain",
        outcome=outcome, reason=reason, auc=facts.auc, ece=facts.ece, judged_with=facts.judged_with,
        limits=limits.model_dump(include={"warmup_through", "max_ece", "min_auc", "cooldown_intervals"}),
    )  # fmt: skip


def _judge(facts: Facts, past: Past, limits: MonitorParams, found: list[str]) -> tuple[Outcome, str]:
    why = " and ".join(found)
    if facts.why_not and facts.champion is not None:
        return "not measured", f"cannot be measured: {facts.why_not}"
    if not found and facts.champion is None:
        return "warming up", f"warming up through {limits.warmup_through}: no model is live yet"
    if not found:
        return "keep", f"ECE {facts.ece:.4f} <= {limits.max_ece:g} and AUC {facts.auc:.4f} >= {limits.min_auc:g}"
    if past.live_through is not None and past.live_through > facts.interval:
        return (
            "superseded",
            f"{why}, but the model now live was trained through {past.live_through}, after this interval",
        )
    if last := cooling(facts.interval, past, limits.cooldown_intervals):
        return (
            "cooling down",
            f"{why}, but {last} asked already and the cooldown is {limits.cooldown_intervals} landed interval(s)",
        )
    return "retrain", why


def cooling(interval: str, past: Past, cooldown_intervals: int) -> str | None:
    """The last interval up to ``interval`` that asked for a retrain, if the cooldown since then is not over."""
    earlier = [asked for asked in past.asked if asked <= interval]
    if not cooldown_intervals or not earlier:
        return None
    waited = sum(max(earlier) < landed <= interval for landed in past.landed)
    return max(earlier) if waited <= cooldown_intervals else None


def asked_before(store: Store, interval: str) -> tuple[str, ...]:
    """Intervals up to ``interval`` with a decision to retrain in the store."""
    names = [name for name in store.names("decisions") if name.split("/")[1] <= interval]
    return tuple(sorted({found["interval"] for name in names if (found := store.read_json(name))["retrain"]}))


def record(store: Store, decision: Decision) -> Decision:
    """Keep ``decision``; when its key was decided before, that decision holds and is returned."""
    name = f"decisions/{decision.interval}/{decision.key}.json"
    if store.create(name, to_json(decision.model_dump())):
        return decision
    return Decision.model_validate(store.read_json(name))


def recorded(store: Store, facts: Facts) -> Decision | None:
    """What was decided of the same interval, data and champion, None if nothing was."""
    try:
        return Decision.model_validate(store.read_json(f"decisions/{facts.interval}/{facts.key}.json"))
    except FileNotFoundError:
        return None


def claim(store: Store, decision: Decision, run: str) -> str | None:
    """Take the right to act on ``decision`` for ``run``; None when it has it, else the run that does.

    Without a run key (by hand, outside Airflow) nobody could act on it, so nothing is taken.
    """
    if not run or not decision.retrain:
        return None
    name = f"requests/{decision.interval}/{decision.key}.json"
    if store.create(name, to_json({"run": run})):
        return None
    holder: dict[str, Any] = store.read_json(name)
    return None if holder["run"] == run else str(holder["run"])
