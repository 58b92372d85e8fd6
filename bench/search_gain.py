"""What a search gains: searched on January to March, asked about April. `python -m bench.search_gain [--trials 20]`.

Prints a line a family: log loss of April by a training with the chosen settings less that with the present ones, with its
interval over April's days.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from bench.year import CONFIDENCE, FOLDER, RESAMPLES, SEED, WARMUP, Learnt, features
from tasks import search, spec
from tasks.modelling.stats import compare
from tasks.modelling.tables import labelled, read_features
from tasks.searching.trial import with_settings
from tasks.settings import params
from tasks.settings.environment import CODE, environment, store
from tasks.spec import current
from tasks.train import fit


def main() -> None:
    """Search, train twice, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--family", default="xgboost")
    given = parser.parse_args()
    settings = params.of_model(CODE, environment().model)
    interval = current().cadence.shift(WARMUP, 1)
    with features(current().cadence.span("2013-01", interval)) as folder:
        learnt = Learnt(WARMUP, folder, settings)
        budget = settings.train.search.model_copy(update={"trials": given.trials})
        asked = settings.train.model_copy(update={"search": budget})
        started = time.process_time()
        found = search.search(given.family, learnt.rows, asked, store())
        seconds = time.process_time() - started
        for sentence in search.sentences(found):
            print(sentence)
        chosen = with_settings(settings.train, given.family, found["chosen"])
        rows = labelled(read_features([interval], folder=folder, labels_through=interval), spec.current().label)
        scores = []
        for each in (chosen, settings.train):
            learnt = Learnt(f"{WARMUP}", folder, settings.model_copy(update={"train": each}))
            learnt.__dict__["fitted"] = {given.family: fit(given.family, learnt.rows, each, None)}
            scores.append(learnt.model(given.family).score(rows))
    gain = compare(
        np.asarray(rows["day"]),
        rows[spec.current().label].to_numpy(),
        *scores,
        resamples=RESAMPLES,
        confidence=CONFIDENCE,
        seed=SEED,
    )
    print(f"{given.family}: {seconds:.0f} CPU-seconds for {found['trials']} trials, {found['given_up']} given up.")
    for name, d in (("log loss", gain.d_log_loss), ("AUC", gain.d_auc)):
        print(
            f"{interval}, {name}, chosen less present: {d.mean:+.5f} [{d.lo:+.5f}, {d.hi:+.5f}] over {gain.days} days"
        )
    print(f"kept in {FOLDER}")


if __name__ == "__main__":
    main()
