"""A study: the trials of one search, kept in a database or a file, so that a search that was killed goes on where it was.

Optuna's generators cannot be put back to where they were. So each trial gets a sampler of its own, with seed = base +
number of finished trials: what a trial draws depends on the trials before it and on nothing else, killed or not.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from tasks.core.errors import AirloopError, ConfigError
from tasks.core.urls import path_of
from tasks.modelling.stats import ConfidenceInterval, mean_by_days
from tasks.searching.trial import POINTS, Judgement, distributions, drawn, prune, with_settings
from tasks.settings.search_params import SearchParams
from tasks.settings.training_params import TrainParams
from tasks.storage.artefacts import sha256, to_json
from tasks.training.ending import Ended
from tasks.training.families import named

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
ATTEMPTS = 3
"""Times that a trial may die before the search gives up; ends that were asked for, as evictions are, do not count."""
ASKED = "asked to end"
CONFIDENCE, RESAMPLES = 0.95, 2000

Try = Callable[[TrainParams, Callable[[int, float], None]], Judgement]
"""Trains with settings, reporting the loss on the way."""


def name_of(family: str, fingerprints: list[str], settings: TrainParams) -> str:
    """Name of the study of these rows and this code: equal where trials can be compared.

    The budget, and what the values searched over are now, make no difference.
    """
    space = settings.search.space[family]
    fixed = {k: v for k, v in getattr(settings, family).model_dump(mode="json").items() if k not in space}
    about = [
        fingerprints, family, named(family).VERSION, settings.seed, settings.threads, settings.device, fixed,
        {name: values.model_dump(mode="json") for name, values in space.items()}, settings.search.pruning.model_dump(),
    ]  # fmt: skip
    return f"{family}-{sha256(to_json(about))[:16]}"


def require_space(family: str, settings: TrainParams) -> None:
    """ConfigError when nothing says what to search."""
    if not settings.search.space.get(family):
        raise ConfigError(
            f"train.search.space has no {family}; say there which settings to search and between which values."
        )


def storage(url: str) -> optuna.storages.BaseStorage:
    """Where studies are kept: the database at ``url``, or the journal in its file, which is made if it is not there."""
    file = path_of(url)
    if file is None:
        return optuna.storages.RDBStorage(url)
    file.parent.mkdir(parents=True, exist_ok=True)
    _cut_unfinished_line(file)
    return optuna.storages.JournalStorage(JournalFileBackend(str(file)))


def _cut_unfinished_line(file: Path) -> None:
    """A full disk or a machine that lost its power leaves half a line; Optuna would append to it and never read on."""
    if file.exists():
        written = file.read_bytes()
        os.truncate(file, written.rfind(b"\n") + 1)


class Search:
    """The study ``name``, kept at ``url``.

    Args:
        name: of the study.
        family: whose settings are searched.
        settings: of the training; what is not searched stays as it is.
        url: of the database, for SQLAlchemy, or of a journal's file.

    Raises:
        ConfigError: the database does not answer.
    """

    def __init__(self, name: str, family: str, settings: TrainParams, url: str) -> None:
        self._family, self._settings = family, settings
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        pruning = settings.search.pruning
        pruner = optuna.pruners.MedianPruner(
            n_startup_trials=pruning.after_trials, n_warmup_steps=round(pruning.after_share * POINTS)
        )
        try:
            self.study = optuna.create_study(
                storage=storage(url), study_name=name, direction="minimize", pruner=pruner, load_if_exists=True
            )
        except (SQLAlchemyError, ImportError) as error:
            raise ConfigError(
                f"The database of searches at {_without_password(url)} cannot be used: {str(error).splitlines()[0]}. "
                "Start it (this machine's own: `airloop up`), or correct AIRLOOP_STUDIES."
            ) from None

    @property
    def trials(self) -> list[FrozenTrial]:
        """Finished trials, oldest first."""
        return self.study.get_trials(deepcopy=False, states=FINISHED)

    @property
    def minutes(self) -> float:
        """Minutes that the finished trials took."""
        return sum(t.duration.total_seconds() for t in self.trials if t.duration) / 60

    def run(self, attempt: Try, budget: SearchParams, after: Callable[[], None]) -> None:
        """Add trials until the budget is used up; ``after`` is called after each."""
        self._bury()
        while self._left(budget):
            self._one(attempt)
            after()

    def _left(self, budget: SearchParams) -> bool:
        return (not budget.trials or len(self.trials) < budget.trials) and (
            not budget.minutes or self.minutes < budget.minutes
        )

    def _bury(self) -> None:
        """Trials that a dead process left running are not part of the study; what they would have said is asked again."""
        dead = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        for trial in dead:
            self.study.tell(trial.number, state=TrialState.FAIL)
        last = max((trial.number for trial in self.trials), default=-1)
        failed = self.study.get_trials(deepcopy=False, states=(TrialState.FAIL,))
        since = [trial for trial in failed if trial.number > last and ASKED not in trial.user_attrs]
        if len(since) >= ATTEMPTS:
            raise AirloopError(
                f"The trial with {drawn(since[-1].params)} did not come to its end {len(since)} times; give the search more "
                "memory or time, or narrow train.search.space in the model's params.yaml."
            )

    def _one(self, attempt: Try) -> None:
        self.study.sampler = optuna.samplers.TPESampler(seed=self._settings.seed + len(self.trials))
        # Present settings first: what the search chooses is at least as good as they are, by its own measure.
        waiting = self.study.get_trials(
            deepcopy=False, states=(TrialState.WAITING,)
        )  # of a process that died right here
        if not self.trials and not waiting and (present := self.present) is not None:
            self.study.enqueue_trial(present)
        trial = self.study.ask(distributions(self._space))
        try:
            found = attempt(with_settings(self._settings, self._family, drawn(trial.params)), prune(trial))
        except optuna.TrialPruned:
            self.study.tell(trial, state=TrialState.PRUNED)
            return
        except Ended:
            trial.set_user_attr(ASKED, True)
            raise
        for key in ("days", "loss", "rows"):
            trial.set_user_attr(key, getattr(found, key))
        self.study.tell(trial, found.value)

    @property
    def _space(self) -> dict[str, Any]:
        return dict(self._settings.search.space[self._family])

    @property
    def present(self) -> dict[str, Any] | None:
        """The settings searched over as they are now; None where they lie outside what is searched."""
        now = getattr(self._settings, self._family).model_dump()
        inside = {
            name: distribution._contains(distribution.to_internal_repr(now[name]))  # noqa: SLF001 - Optuna has no public test
            for name, distribution in distributions(self._space).items()
        }
        return {name: now[name] for name in inside} if all(inside.values()) else None

    def best(self) -> FrozenTrial:
        """The finished trial with the lowest loss."""
        return self.study.best_trial

    def gain(self) -> ConfidenceInterval:
        """Log loss of the best trial less that of the first, with its 95% interval over days."""
        first, best = (_judgement(t) for t in (self.trials[0], self.best()))
        return mean_by_days(
            np.subtract(best.loss, first.loss), np.asarray(best.rows),
            resamples=RESAMPLES, confidence=CONFIDENCE, seed=self._settings.seed,
        )  # fmt: skip


def _judgement(trial: FrozenTrial) -> Judgement:
    return Judgement(*(trial.user_attrs[key] for key in ("days", "loss", "rows")))


def _without_password(url: str) -> str:
    from sqlalchemy.engine import make_url

    return make_url(url).render_as_string(hide_password=True)
