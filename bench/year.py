"""A year, interval by interval: what each way of training says of the interval after. `python -m bench.year [--through 2013-12]`.

The features are made by the commands of the ingest DAG, the models by the code and the settings of the stage `train`, and a
interval is scored from the ONNX file. All of it is kept in .airloop/year, so that a run that was ended goes on; delete that
folder to measure again. Prints Markdown: docs/year.md holds it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from bench.home import INGEST, Home, bare_home
from tasks import spec, train
from tasks.modelling import model as models
from tasks.modelling.stats import losses, mean_by_days, spreads
from tasks.modelling.tables import labelled, read_features
from tasks.settings import params
from tasks.settings.environment import CODE, environment, landing
from tasks.settings.params import Params
from tasks.spec import current
from tasks.storage.artefacts import sha256, to_json, write_atomic
from tasks.training import best
from tasks.training.family import Fitted

FIRST, LAST = "2013-01", "2013-12"
WARMUP = "2013-03"
"""Last interval that the frozen models learn from."""
FOLDER = CODE / ".airloop" / "year"
CONFIDENCE, RESAMPLES, SEED = 0.95, 2000, 7
WAYS = {
    "best": "`family: best`, retrained each interval",
    "xgboost": "XGBoost, retrained",
    "mlp": "mlp, retrained",
    "frozen xgboost": "XGBoost, frozen",
    "frozen mlp": "mlp, frozen",
    "constant": "constant",
}


@contextmanager
def features(intervals: Sequence[str]) -> Iterator[Path]:
    """The folder of ``<interval>.parquet``; makes those that are not there yet, about 25 CPU-seconds each."""
    with bare_home(FOLDER) as home:
        made = FOLDER / "features"
        there = made, made.with_name("labels")
        if absent := [key for key in intervals if not all((folder / f"{key}.parquet").exists() for folder in there)]:
            feed = spec.example()
            tables = feed.read(feed.source(), absent)
            for interval in absent:
                _say(f"{interval}: landing and the ingest DAG's commands")
                feed.land(interval, tables, landing())
                _make(home, interval, made)
        yield made


def _make(home: Home, interval: str, made: Path) -> None:
    for action, *names in INGEST:
        home.call(action, names, f"ingest-{interval}", interval)
    for folder in (made.with_name("labels"), made):  # the features last: where they are, the labels are
        content = (home.ingested(interval) / f"data/{folder.name}/{interval}.parquet").read_bytes()
        write_atomic(folder / f"{interval}.parquet", content)


@dataclass(frozen=True)
class Learnt:
    """What both families know of all intervals through ``through``."""

    through: str
    folder: Path
    """Of the features."""
    settings: Params

    @cached_property
    def rows(self) -> Any:
        """What they learn from."""
        window = current().cadence.window(current().cadence.span(FIRST, self.through))
        settings = Params.model_validate(self.settings.model_dump(by_alias=True) | {"intervals": window})
        return train.source(settings, self.folder)

    @cached_property
    def fitted(self) -> dict[str, Fitted]:
        """Each family's model."""
        return {family: self.fit(family) for family in best.FAMILIES}

    def fit(self, family: str) -> Fitted:
        """The family's model; trained now, unless it is kept."""
        kept = FOLDER / "models" / self.through / f"{family}.json"
        if not kept.exists():
            _say(f"{family}: {FIRST} to {self.through}")
            started = time.process_time()
            found = train.fit(family, self.rows, self.settings.train, None)
            _say(f"{family}: {time.process_time() - started:.1f} CPU-seconds")
            write_atomic(kept, found.to_bytes())
        return Fitted.parse(kept.read_bytes())

    @cached_property
    def chosen(self) -> tuple[str, dict[str, Any]]:
        """The family that `family: best` sends to the gate, and why."""
        name, said = best.choose(self.fitted, self.rows, self.rows.contract(), self.settings.train.seed)
        return name, said["best"]

    def model(self, family: str) -> models.Model:
        """The family's ONNX file."""
        onnx = self.fit(family).onnx
        contract = self.rows.contract().model_copy(update={"onnx_sha256": sha256(onnx)})
        return models.load(onnx, contract.to_bytes(), sha256(onnx))


def measure(interval: str, folder: Path, settings: Params) -> dict[str, Any]:
    """The interval's numbers: ``ways`` with AUC, log loss and ECE of each, ``loss`` summed by day; kept when measured."""
    path = FOLDER / "measured" / f"{interval}.json"
    if not path.exists():
        frozen, fresh = (Learnt(m, folder, settings) for m in (WARMUP, current().cadence.shift(interval, -1)))
        rows = labelled(read_features([interval], folder=folder, labels_through=interval), spec.current().label)
        scores = {family: fresh.model(family).score(rows) for family in best.FAMILIES}
        scores |= {f"frozen {family}": frozen.model(family).score(rows) for family in best.FAMILIES}
        scores["best"] = scores[fresh.chosen[0]]
        scores["constant"] = np.full(rows.num_rows, fresh.rows.facts["positive_share"], np.float32)
        days, labels = np.asarray(rows["day"]), rows[spec.current().label].to_numpy()
        found: dict[str, Any] = {
            "interval": interval,
            "chosen": fresh.chosen[0],
            "choice": fresh.chosen[1],
            "ways": {},
            "loss": {},
        }
        found["rows"] = np.bincount(days - days.min()).tolist()
        for way, p in scores.items():
            found["ways"][way] = _measures(days, labels, p, settings.evaluate.calibration_bins)
            found["loss"][way] = np.bincount(days - days.min(), weights=losses(labels, p)).tolist()
        write_atomic(path, to_json(found))
    return dict(json.loads(path.read_bytes()))


def _measures(days: Any, labels: Any, scores: Any, bins: int) -> dict[str, Any]:
    found = spreads(days, labels, scores, bins=bins, resamples=RESAMPLES, confidence=CONFIDENCE, seed=SEED)
    return {name: asdict(spread) for name, spread in found.items()}


def report(intervals: list[dict[str, Any]]) -> str:
    """The tables, as Markdown."""
    ways = [way for way in WAYS if way != "constant"]
    lines = ["| interval | chosen | " + " | ".join(WAYS[way] for way in ways) + " |", "|---" * (len(ways) + 2) + "|"]
    lines += [
        f"| {found['interval']} | {found['chosen']} | " + " | ".join(_cell(found["ways"][way]) for way in ways) + " |"
        for found in intervals
    ]
    means = {way: {name: _mean(intervals, way, name) for name in ("auc", "log_loss", "ece")} for way in ways}
    lines.append("| mean | | " + " | ".join(_cell(means[way]) for way in ways) + " |")
    lines += ["", "| log loss less that of XGBoost, retrained | mean | 95% by days |", "|---|---|---|"]
    lines += [_difference(intervals, way) for way in WAYS if way != "xgboost"]
    return "\n".join(lines)


def _cell(found: dict[str, Any]) -> str:
    def short(value: float) -> str:
        return f"{value:.3f}".removeprefix("0")

    return " ".join(f"{short(found[n]['value'])} ({short(found[n]['se'])})" for n in ("auc", "log_loss", "ece"))


def _mean(intervals: list[dict[str, Any]], way: str, name: str) -> dict[str, float]:
    """Mean over intervals, with the standard error of a mean of independent intervals."""
    each = [found["ways"][way][name] for found in intervals]
    return {
        "value": float(np.mean([m["value"] for m in each])),
        "se": float(np.sqrt(np.sum([m["se"] ** 2 for m in each])) / len(each)),
    }


def _difference(intervals: list[dict[str, Any]], way: str) -> str:
    more = np.concatenate([np.subtract(found["loss"][way], found["loss"]["xgboost"]) for found in intervals])
    rows = np.concatenate([found["rows"] for found in intervals])
    found = mean_by_days(more, rows, resamples=RESAMPLES, confidence=CONFIDENCE, seed=SEED)
    return f"| {WAYS[way]} | {found.mean:+.4f} | {found.lo:+.4f} to {found.hi:+.4f} |"


def _say(what: str) -> None:
    print(f"  {what}", file=sys.stderr, flush=True)


def main() -> None:
    """Go through the year."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--through", default=LAST, help="last interval")
    through = parser.parse_args().through
    settings = params.of_model(CODE, environment().model)
    with (
        features(current().cadence.span(FIRST, through)) as folder,
        redirect_stdout(sys.stderr),
    ):  # trainings print their progress
        intervals = [
            measure(m, folder, settings) for m in current().cadence.span(current().cadence.shift(WARMUP, 1), through)
        ]
    print(report(intervals))


if __name__ == "__main__":
    main()
