"""What grows with the number of landed intervals: opening a run, landing, the service's poll, the Airflow page; beside 12 intervals.

Records, predictions and reports are made up; the live model and the state files are the home's. What opens a `history` run has
all intervals in it, and is shown for a few sizes beside the others, as it is.

    python -m bench.growth page TIMES     in a process of its own: milliseconds of the page's data, as JSON
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import md5
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.frame import Row
    from bench.home import Home
    from tasks.landing.landed import Landed
    from tasks.storage.artefacts import Store

SIZES = (12, 720, 8760, 43800)
"""Intervals: a year of months, a month of hours, a year of hours, and five years of them."""
HISTORY = 720
"""Most intervals of which a `history` run is opened."""
POLLS, PAGES, LANDINGS = 200, 20, 30
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Grown:
    """A store with made-up landed intervals."""

    store: Store
    keys: list[str]
    """Its intervals, in order."""
    following: list[str]
    """Those that come next."""


def measure(home: Home, repeats: int) -> list[Row]:
    """Rows of each size, with the ratio to the smallest."""
    return compare(home.store, SIZES, repeats)


def compare(source: Store, sizes: Sequence[int], repeats: int) -> list[Row]:
    """Rows of each size, on stores that have the live model and the state files of ``source``."""
    from bench.frame import Row

    found: dict[str, dict[int, list[float]]] = {}
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="airloop-growth-") as folder:
            for name, values in _of(grow(source, Path(folder), size), repeats).items():
                found.setdefault(name, {})[size] = values
    rows = []
    for name, by_size in found.items():
        base = statistics.median(by_size[sizes[0]])
        for size, values in by_size.items():
            ratio = round(statistics.median(values) / base, 2)
            rows.append(
                Row(f"{name}, {size:,}", _unit(name), tuple(values), f"{ratio} times {sizes[0]}", {"ratio": ratio})
            )
    return rows


def grow(source: Store, folder: Path, size: int) -> Grown:
    """A store in ``folder`` with ``size`` intervals: files are written in place, and the index is built of them."""
    from tasks import spec
    from tasks.core.urls import url_of
    from tasks.landing import landed_index
    from tasks.storage.artefacts import Store

    model = spec.current()
    store = Store(url_of(folder)).part(model.name)
    keys = _span(model.first, size + LANDINGS + 1)
    _copy_live(source, folder / model.name)
    template = next(iter(landed_index.read(source).last(1)))
    for previous, key in zip([keys[0], *keys], keys[:size], strict=False):
        _put_interval(folder / model.name, _record(key, previous, template.state))
    landed_index.opened(store)
    return Grown(store, keys[:size], keys[size:])


def _of(grown: Grown, repeats: int) -> dict[str, list[float]]:
    """Milliseconds, and how many intervals the service keeps; landings come last, since they add to the store."""
    newest, following = grown.keys[-1], grown.following[0]
    found = {
        "open an interval's run": [_open(grown, "interval", newest) for _ in range(repeats)],
        "open a run that looks back": [_open(grown, "lookback", following) for _ in range(repeats)],
    }
    if len(grown.keys) <= HISTORY:
        found["open a run with all history"] = [_open(grown, "history", newest)]  # minutes: once
    found |= _poll(grown, repeats)
    found["the Airflow page's data"] = _page(grown)
    found["land an interval"] = _land(grown)
    return found


def _unit(name: str) -> str:
    return "intervals" if name.startswith("intervals") else "ms"


def _span(first: str, count: int) -> list[str]:
    from tasks import spec

    cadence, found = spec.current().cadence, [first]
    while len(found) < count:
        found.append(cadence.shift(found[-1], 1))
    return found


def _copy_live(source: Store, target: Path) -> None:
    """The ledger, the live model, its run's settings, and the state files of the newest interval."""
    from tasks.landing import landed_index
    from tasks.registry import ledger

    entry = ledger.Ledger(source).latest()
    assert entry is not None and entry.evidence is not None  # a home has a live model
    names = [*source.names("ledger"), *source.names(f"models/{entry.evidence.model}")]
    names += [name for name in source.names(f"runs/{entry.evidence.run}") if name.endswith("params.yaml")]
    names += [file.name for item in landed_index.read(source).last(1) for file in item.state.values()]
    for name in names:
        _write(target / name, source.read(name))


def _record(key: str, previous: str, state: Any) -> Landed:
    """A record with a lock of the usual size."""
    from tasks.intervals.cadence import seen_after
    from tasks.landing import landed

    def item(path: str) -> dict[str, Any]:
        digest = md5(path.encode(), usedforsecurity=False).hexdigest()
        return {"hash": "md5", "md5": digest, "path": path, "size": 1_000_000}

    own = {
        "ingest": (["data/manifests/{0}.json"], ["data/raw/{0}"]),
        "validate": (
            ["data/raw/{0}"],
            ["data/counts/{0}.json", "data/kept/{0}", "data/quarantine/{0}", "data/tail/{0}", seen_after("{0}")],
        ),
        "labels": (["data/kept/{0}"], ["data/labels/{0}.parquet"]),
        "features": (["data/kept/{0}", seen_after(previous)], ["data/features/{0}.parquet"]),
    }
    lock = {
        f"{stage}@{key}": {
            "cmd": f"python -m tasks.{stage} --interval {key}",
            "deps": [item(path.format(key)) for path in (*deps, *(f"tasks/core/{n}.py" for n in range(12)))],
            "outs": [item(path.format(key)) for path in outs],
        }
        for stage, (deps, outs) in own.items()
    }
    counts = {"rows": {"landed": 1000, "kept": 990, "quarantined": 10}, "reasons": {}}
    return landed.Landed(
        interval=key, previous=previous, run=f"ingest-{key}", manifest="0" * 64, features=item(f"data/features/{key}.parquet")["md5"],
        counts=counts, lock=lock, state=state,
    )  # fmt: skip


def _put_interval(folder: Path, record: Landed) -> None:
    """The interval's record, what scored it and what the monitor said of it."""
    from tasks.landing import landed
    from tasks.storage.artefacts import to_json

    key = record.interval
    scored = {"status": "scored", "champion": 1, "features": record.features}
    decision = {
        "champion": 1,
        "features": record.features,
        "retrain": False,
        "outcome": "keep",
        "reason": "within limits",
    }
    measures = {name: {"value": 0.5} for name in ("auc", "log_loss", "ece")}
    monitored = {"champion": measures, "decision": decision, "alarms": [], "audit": None}
    _write(folder / landed.name(key), to_json(record.model_dump()))
    _write(folder / f"predictions/{key}/scored.json", to_json(scored))
    _write(folder / f"reports/{key}/monitor.json", to_json(monitored))


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _ms(work: Callable[..., Any], *arguments: Any) -> float:
    """Milliseconds that ``work`` takes with these arguments."""
    start = time.perf_counter()
    work(*arguments)
    return 1000 * (time.perf_counter() - start)


def _open(grown: Grown, window: str, interval: str) -> float:
    from bench.home import forget
    from tasks import spec
    from tasks.running.runs import Request, Span, open_run, workspace

    request = Request(key=f"growth-{window}", span=Span(spec.current().name, interval, interval), window=window)
    try:
        return _ms(lambda: open_run(request, grown.store, begins=True))
    finally:
        forget(workspace(request.key))


def _poll(grown: Grown, repeats: int) -> dict[str, list[float]]:
    """The service's look at the store: the first one, one where nothing has changed, and what it then keeps."""
    from serving.live import Live, Loader
    from tasks import spec

    firsts, polls, kept = [], [], []
    for _ in range(repeats):
        loader = Loader(spec.current(), grown.store, ROOT)
        start = time.perf_counter()
        live = loader.load(Live())
        firsts.append(1000 * (time.perf_counter() - start))
        if not live.ready or live.problems or live.state is None:
            raise RuntimeError(f"the service is not ready: {live.reason} {live.problems}")
        kept.append(float(len(live.state.state.intervals)))
        polls.append(statistics.median(_ms(loader.load, live) for _ in range(POLLS)))
    return {"the service's start": firsts, "the service's poll": polls, "intervals that the service keeps": kept}


def _page(grown: Grown) -> list[float]:
    with tempfile.TemporaryDirectory() as home:
        done = subprocess.run(
            [sys.executable, "-m", "bench.growth", "page", str(PAGES)], cwd=ROOT, check=False, capture_output=True, text=True,
            env={**os.environ, "AIRLOOP_STORE": grown.store.shared.url, "AIRFLOW_HOME": home, "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
                 "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db"},
        )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"the page's process failed:\n{done.stderr[-3000:]}")
    found: list[float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _land(grown: Grown) -> list[float]:
    """Each of some landings, of which one compacts the index's head."""
    from tasks.landing import landed, landed_index

    (template,) = landed_index.read(grown.store).last(1)
    found, previous = [], grown.keys[-1]
    for key in grown.following[:LANDINGS]:
        record = _record(key, previous, template.state)
        found.append(_ms(landed.publish, grown.store, record, partial(getattr, record, "manifest")))
        previous = key
    return found


def main() -> None:
    """Print the milliseconds of the page's data."""
    sys.path.insert(0, str(ROOT / "plugins"))
    from airloop import pages
    from airloop.model import find

    from tasks import spec

    model = find(spec.current().name)
    pages.overview(model)  # imports
    print(json.dumps([_ms(lambda: pages.overview(model)) for _ in range(int(sys.argv[2]))]))


if __name__ == "__main__":
    main()
