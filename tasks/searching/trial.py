"""One trial: settings are drawn, trained with on every fold, and judged on the days after."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from tasks import spec
from tasks.modelling.stats import losses
from tasks.searching.folds import Fold
from tasks.settings.search_params import Choices, Range, Space
from tasks.settings.training_params import TrainParams
from tasks.training.checkpoints import Checkpoints
from tasks.training.ending import Ending
from tasks.training.families import named
from tasks.training.family import Job
from tasks.training.progress import Progress

BATCH = 65536
POINTS = 10
"""Points of a training at which a trial may be given up, evenly over its largest number of steps."""


@dataclass(frozen=True)
class Judgement:
    """Log loss of the days after, summed by day: what differences between trials are drawn from."""

    days: list[int]
    loss: list[float]
    rows: list[int]

    @property
    def value(self) -> float:
        """Mean over rows."""
        return sum(self.loss) / sum(self.rows)


class Watch(Progress):
    """Reports its training's validation loss to a trial, and ends it where the trial is not worth its end.

    Args:
        family: what trains.
        report: given the point reached, 1 to POINTS, and the loss; raises to end the training.
    """

    def __init__(self, family: str, report: Callable[[int, float], None]) -> None:
        super().__init__(family)
        self._report, self._point = report, 0

    def step(self, step: int, of: int, samples: int, losses: Mapping[str, float], epoch: float | None = None) -> None:
        """Pass a validation loss on, once for each point."""
        del samples, epoch
        loss = next((value for name, value in losses.items() if name.startswith("validation")), None)
        point = POINTS * step // of
        if loss is not None and point > self._point:
            self._point = point
            self._report(point, loss)


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """``space`` as Optuna wants it."""
    return {name: _distribution(values) for name, values in sorted(space.items())}


def _distribution(values: Range | Choices) -> BaseDistribution:
    if isinstance(values, Choices):
        return CategoricalDistribution(values.choices)
    if isinstance(values.low, int) and isinstance(values.high, int):
        return IntDistribution(values.low, values.high, log=values.log)
    return FloatDistribution(float(values.low), float(values.high), log=values.log)


def drawn(params: dict[str, Any]) -> dict[str, Any]:
    """Drawn values as they are used and written: four digits, so that the file stays readable and says it all."""
    return {name: float(f"{v:.4g}") if isinstance(v, float) else v for name, v in params.items()}


def with_settings(settings: TrainParams, family: str, values: dict[str, Any]) -> TrainParams:
    """``settings`` with these values in the family's section, validated again."""
    raw = settings.model_dump()
    return TrainParams.model_validate(raw | {family: raw[family] | values})


def judge(
    family: str, folds: list[Fold], settings: TrainParams, report: Callable[[int, float], None], ending: Ending
) -> Judgement:
    """Train on each fold's past and ask about its future; only the first fold, the newest, reports its training.

    Raises:
        Ended: the process was asked to end.
        optuna.TrialPruned: as ``report`` raises it.
    """
    days: dict[int, tuple[float, int]] = {}
    for number, fold in enumerate(folds):
        contract = fold.past.contract()
        watch = Watch(family, report if number == 0 else lambda _point, _loss: None)
        # Folds are short: a trial that dies is done again rather than resumed.
        job = Job(Checkpoints(None, "", settings.checkpoint), watch, ending)
        fitted = named(family).fit(fold.past, contract, settings, job)
        rows = fold.rows()
        predict = named(family).predict
        # A network holds many times what it is given.
        scores = np.concatenate([predict(fitted.native, contract.encode(b)) for b in rows.to_batches(BATCH)])
        labels = rows[spec.current().label].to_numpy().astype(np.int8)
        days |= _by_day(np.asarray(rows["day"]), losses(labels, scores))
    ordered = sorted(days)
    return Judgement(ordered, [days[day][0] for day in ordered], [days[day][1] for day in ordered])


def _by_day(days: np.ndarray[Any, Any], loss: np.ndarray[Any, Any]) -> dict[int, tuple[float, int]]:
    unique, index = np.unique(days, return_inverse=True)
    sums, counts = np.bincount(index, weights=loss), np.bincount(index)
    return {int(day): (float(s), int(n)) for day, s, n in zip(unique, sums, counts, strict=True)}


def prune(trial: optuna.Trial) -> Callable[[int, float], None]:
    """What a training reports to ``trial``."""

    def report(point: int, loss: float) -> None:
        trial.report(loss, point)
        if trial.should_prune():
            raise optuna.TrialPruned

    return report
