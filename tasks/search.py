"""search: settings of the model family that predict later days better, written into the model's params.yaml.

python tasks/search.py --trials 20

No stage of dvc.yaml: stages depend on the settings, and this changes them. With a budget in train.search each
training begins with it (tasks/running/spans.py). A study is kept in a database; a search that was killed, or whose budget
was raised, goes on where it was.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from tasks.core.errors import ConfigError, run_main
from tasks.searching.folds import Fold, fingerprint, folds
from tasks.searching.page import render
from tasks.searching.study import Search, name_of, require_space
from tasks.searching.tracking import Tracking
from tasks.searching.trial import drawn, judge
from tasks.settings import params
from tasks.settings.environment import environment, store
from tasks.settings.search_params import SearchParams
from tasks.settings.settings_files import of_model, put
from tasks.settings.training_params import TrainParams
from tasks.storage.artefacts import Store, to_json
from tasks.train import code_digest, families, source
from tasks.training.ending import Ending
from tasks.training.source import Source


def search(family: str, rows: Source, settings: TrainParams, keep: Store | None) -> dict[str, Any]:
    """Search the settings of one family on ``rows`` within settings.search's budget.

    Returns what was found: ``chosen`` holds the settings, by name. The page of plots goes to ``keep`` and to MLflow.
    """
    require_space(family, settings)
    if os.environ.get("PET_NNODES", "1") != "1":
        raise ConfigError(
            "A search runs on one machine, and PET_NNODES says that several train together; search on one of them first "
            "(python tasks/search.py), then train with train.search.trials and minutes 0."
        )
    questions = folds(rows, settings.search.folds)
    name = name_of(family, [fingerprint(rows, settings.search.folds), code_digest()], settings)
    found = Search(f"{environment().model}.{name}", family, settings, environment().studies_url)
    tracking = Tracking(found.study, environment().mlflow_tracking_uri)
    with Ending() as ending:
        found.run(
            lambda tried, report: judge(family, questions, tried, report, ending),
            settings.search,
            lambda: _after(found, tracking),
        )
    tracking.follow(found.trials)
    facts = summary(found, questions)
    files = {"search.json": to_json(facts), "search.html": render(found.study, sentences(facts)).encode()}
    tracking.conclude(files)
    if keep is not None:
        for file, content in files.items():
            keep.write(f"searches/{name}/{file}", content)
    return facts


def _after(found: Search, tracking: Tracking) -> None:
    last = found.trials[-1]
    outcome = "given up" if last.value is None else f"log loss {last.value:.5f}"
    print(f"search: trial {len(found.trials)}, {outcome}; best {found.best().value:.5f}", flush=True)
    tracking.follow(found.trials)


def summary(found: Search, questions: list[Fold]) -> dict[str, Any]:
    """What the study says, as plain JSON without clock times."""
    trials, best, gain = found.trials, found.best(), found.gain()
    return {
        "study": found.study.study_name,
        "trials": len(trials),
        "given_up": sum(t.value is None for t in trials),
        "folds": [question.days for question in questions],
        "first": {"settings": drawn(trials[0].params), "log_loss": trials[0].value},
        "best": {"trial": best.number, "log_loss": best.value},
        "gain": {"mean": gain.mean, "lo": gain.lo, "hi": gain.hi, "days": len(best.user_attrs["days"])},
        "chosen": drawn(best.params),
    }


def sentences(facts: dict[str, Any]) -> list[str]:
    """``facts`` for people."""
    gain = facts["gain"]
    interval = f"{gain['mean']:+.5f} [{gain['lo']:+.5f}, {gain['hi']:+.5f}]"
    return [
        f"{facts['trials']} trials, {facts['given_up']} of them given up.",
        f"Log loss of the best less the first's: {interval} over {gain['days']} later days. The best of many looks better than it is.",
        "Chosen: " + ", ".join(f"{name} {value}" for name, value in facts["chosen"].items()) + ".",
    ]


def budget(settings: SearchParams, trials: int | None, minutes: float | None) -> SearchParams:
    """``settings`` with the command line's budget where it has one; ConfigError when there is none at all."""
    if trials is not None or minutes is not None:
        settings = settings.model_copy(update={"trials": trials or 0, "minutes": minutes or 0.0})
    if not settings.on:
        raise ConfigError(
            "The search has no budget: set train.search.trials or train.search.minutes in the model's params.yaml, or give --trials."
        )
    return settings


def main() -> None:
    """Search, and write what was found into the model's params.yaml."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, help="budget in trials, in place of that of train.search")
    parser.add_argument("--minutes", type=float, help="budget in minutes, likewise")
    given = parser.parse_args()
    settings = params.load()
    train = settings.train.model_copy(update={"search": budget(settings.train.search, given.trials, given.minutes)})
    rows = source(settings)
    for family in families(train):
        facts = search(family, rows, train, store())
        for sentence in sentences(facts):
            print(f"search: {family}: {sentence}")
        file = of_model(settings.model)
        changes = put(Path(file), {f"train.{family}.{name}": v for name, v in facts["chosen"].items()})
        print(
            f"search: {family}: {file} {'has now ' + '; '.join(changes) if changes else 'has it already'}",
            flush=True,
        )


if __name__ == "__main__":
    run_main(main)
