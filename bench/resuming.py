"""What checkpoints cost a training that nobody interrupts, and how soon one that is killed learns something new.

python -m bench.resuming one SPEC     train once as SPEC (JSON) says, in a process of its own; prints JSON
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.frame import Row, run
from bench.home import INTERVALS, Home
from bench.training import link
from tasks.core.urls import url_of
from tasks.settings import settings_files
from tasks.settings.environment import CODE, environment
from tasks.settings.params import load
from tasks.storage.artefacts import Store
from tasks.train import source
from tasks.training.checkpoints import Checkpoints
from tasks.training.ending import Ending
from tasks.training.families import named
from tasks.training.family import Job
from tasks.training.progress import Progress

OFTEN = {"xgboost": 50, "mlp": 200}
"""Steps between checkpoints: XGBoost's at every boundary; far more often than the settings have it."""
STEP = " of at most "


def measure(home: Home, repeats: int) -> list[Row]:
    """All rows of the table."""
    with tempfile.TemporaryDirectory() as name:
        places = {family: _workspace(home, Path(name) / family, family) for family in OFTEN}
        return [
            row
            for family, root in places.items()
            for row in (*_cost(root, family, repeats), _again(root, family, repeats))
        ]


def _workspace(home: Home, root: Path, family: str) -> Path:
    """The real intervals, the stage's own settings but for how often checkpoints are written, and the code."""
    (root / "data").mkdir(parents=True)
    (root / "tasks").symlink_to(CODE / "tasks")
    shutil.copytree(CODE / "models", root / "models", ignore=shutil.ignore_patterns("__pycache__"))
    for interval in INTERVALS:
        link(home.ingested(interval) / "data", root / "data", interval)
    model = environment().model
    raw = settings_files.read(CODE, model) | settings_files.rendered(CODE, model)
    raw["train"] |= {"family": family, "threads": 1}
    raw["train"]["checkpoint"] |= {"steps": OFTEN[family], "seconds": 1e9}
    raw["train"]["xgboost"]["early_stopping_rounds"] = raw["train"]["xgboost"][
        "rounds"
    ]  # equal work, and time to be killed
    settings_files.write(root, raw)
    return root


def _cost(root: Path, family: str, repeats: int) -> list[Row]:
    def once(steps: int) -> dict[str, float]:
        checkpoint = {"steps": steps, "seconds": 1e9}
        task = json.dumps({"family": family, "checkpoint": checkpoint, "store": url_of(root / "store")})
        env = {"PYTHONPATH": str(CODE)}
        said = run([sys.executable, "-m", "bench.resuming", "one", task], root, env).output
        figures: dict[str, float] = json.loads(next(line for line in said.splitlines() if line.startswith("{")))
        return figures

    often, never = [once(OFTEN[family]) for _ in range(repeats)], [once(10**9) for _ in range(repeats)]
    note = f"one every {OFTEN[family]} steps: {often[0]['written']:.0f} in {often[0]['seconds']:.1f} s, {often[0]['bytes'] / 1000:,.0f} kB the last"
    cpu = tuple(100 * (a["cpu_s"] / b["cpu_s"] - 1) for a, b in zip(often, never, strict=True))
    return [
        Row(f"{family}: training waits for checkpoints", "% of its time", tuple(100 * f["waits"] / f["seconds"] for f in often), note),
        Row(f"{family}: CPU of checkpoints", "% more", cpu, f"beside none; {never[0]['cpu_s']:.1f} CPU-s without"),
    ]  # fmt: skip


def _again(root: Path, family: str, repeats: int) -> Row:
    """Seconds from SIGKILL to the first step that no process before had done."""
    store = root / "killed"
    seconds = tuple(_killed(root, store) for _ in range(repeats))
    note = "a process at once; imports and the window's rows are read again, then what was lost is learned again"
    return Row(f"{family}: from SIGKILL to the first new step", "s", seconds, note)


def _killed(root: Path, store: Path) -> float:
    first = _start(root, store)
    _until(first, lambda _: any(store.glob("checkpoints/*/0*")))
    _until(first, lambda step: step > 150)
    first.kill()
    killed = time.monotonic()
    said = first.communicate()[0].splitlines()
    reached = max([150, *(_step(line) for line in said if STEP in line)])
    second = _start(root, store)
    _until(second, lambda step: step > reached)
    passed = time.monotonic() - killed
    second.kill()
    second.communicate()
    return passed


def _start(root: Path, store: Path) -> subprocess.Popen[str]:
    code = "from bench.resuming import training; training()"
    env = {**os.environ, "PYTHONPATH": str(CODE), "AIRLOOP_STORE": url_of(store), "MLFLOW_TRACKING_URI": ""}
    argv = [sys.executable, "-c", code]
    return subprocess.Popen(argv, cwd=root, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _until(process: subprocess.Popen[str], enough: Callable[[int], bool]) -> None:
    """Read what a training says until a step is enough; RuntimeError when it ends before."""
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if STEP in line and enough(_step(line)):
            return
    raise RuntimeError("the training ended too early:\n" + "".join(said)[-2000:])


def _step(line: str) -> int:
    return int(line.partition(STEP)[0].rpartition(" ")[2])


def training() -> None:
    """tasks/train.py, which says every step."""
    from tasks import train

    def step(self: Progress, step: int, of: int, samples: int, losses: object, epoch: float | None = None) -> None:
        del self, samples, losses, epoch
        print(f"step {step}{STEP}{of}", flush=True)

    Progress.step = step  # type: ignore[method-assign] # the measured command itself says every step
    sys.argv = ["tasks/train.py"]
    train.main()


class Watched(Checkpoints):
    """Counts bytes, and lets nothing be deleted."""

    size = 0

    def put(self, position: int, suffix: str, make: Callable[[], bytes]) -> None:
        """Put, and note how large it is."""

        def counted() -> bytes:
            content = make()
            self.size = len(content)
            return content

        super().put(position, suffix, counted)


def one(spec: dict[str, Any]) -> dict[str, float]:
    """Train once; how long training itself was busy with checkpoints: copying what goes on to change, and waiting."""
    settings = load()
    use = settings.train
    use = use.model_copy(update={"checkpoint": use.checkpoint.model_copy(update=spec["checkpoint"])})
    rows, family = source(settings), named(spec["family"])
    kept = Watched(Store(spec["store"]), "bench", use.checkpoint)
    waits = _timed(spec["family"])
    job = Job(kept, Progress(spec["family"]), Ending())
    contract = rows.contract()
    begun, before = time.perf_counter(), time.process_time()
    family.fit(rows, contract, use, job)
    seconds, cpu = time.perf_counter() - begun, time.process_time() - before
    kept.flush()
    figures = {
        "seconds": seconds,
        "cpu_s": cpu,
        "waits": waits[0],
        "written": float(kept.written),
        "bytes": float(kept.size),
    }
    kept.clear()
    return figures


def _timed(family: str) -> list[float]:
    """A sum of the seconds in the family's own saving, which it fills."""
    total = [0.0]

    def timing(work: Callable[..., None]) -> Callable[..., None]:
        def timed(*arguments: Any) -> None:
            started = time.perf_counter()
            work(*arguments)
            total[0] += time.perf_counter() - started

        return timed

    if family == "xgboost":
        from tasks.training.families import xgboost

        xgboost._save = timing(xgboost._save)  # noqa: SLF001 - what is measured
    else:
        from tasks.training.neural.loop import Trainer

        Trainer._save = timing(Trainer._save)  # type: ignore[method-assign]  # noqa: SLF001 - likewise
    return total


if __name__ == "__main__":
    print(json.dumps(one(json.loads(sys.argv[2]))))
