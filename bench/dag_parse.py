"""What a DAG file costs to parse, beyond Airflow's own SDK: CPU-seconds, each in a fork of a process that has the SDK.

    python -m bench.dag_parse     in a process of its own; prints JSON

Prints one JSON object: for each file of dags/, `first` (with what it imports: the package airloop and the operators of the place
in use), `again` (the file alone), for each task `task` (as Airflow parses it to start that task), and `models`: the file alone
with 1, 10 and 50 models, and as a task of one of the 50 has it.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.frame import Row
    from bench.home import Home

ROOT = Path(__file__).parents[1]
REPEATS = 5
MODEL = min(path.parent.name for path in (ROOT / "models").glob("*/spec.json"))
"""An example: its tasks are parsed, and the further models are copies of it."""
MODELS = (1, 10, 50)
SDK = (
    "dag",
    "task",
    "chain",
    "Asset",
    "BaseOperator",
    "Param",
    "CronDataIntervalTimetable",
    "PartitionedAssetTimetable",
)


def in_a_fork(work: Callable[[], Any]) -> Any:
    """What ``work`` returns, as JSON allows, from a fork of this process: imports made there are forgotten."""
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        os.write(writer, json.dumps(work()).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return json.loads(answer)


def parse(path: Path) -> float:
    """CPU-seconds of running a DAG file."""
    start = time.process_time()
    runpy.run_path(str(path))
    return round(time.process_time() - start, 4)


def figures_of(path: Path) -> dict[str, Any]:
    """All figures of one DAG file; to be called in a fork of a process that has loaded no DAG yet."""

    def whole() -> dict[str, Any]:
        from airflow.sdk import DAG

        first = parse(path)
        # The file keeps its DAG in no variable; Airflow, too, finds it by its creation.
        tasks = {task for made in gc.get_objects() if isinstance(made, DAG) for task in made.task_ids}
        return {"first": first, "again": best(path), "tasks": sorted(tasks)}

    def for_task(task_id: str) -> float:
        os.environ.update(_about(f"{MODEL}.{path.stem}", task_id))
        return parse(path)

    def for_models(number: int) -> dict[str, float]:
        with checkout(number) as root:
            os.environ["AIRLOOP_CODE"] = str(root)
            parse(path)
            of_all = best(path)
            os.environ.update(_about(f"model00.{path.stem}", "none"))
            return {"all": of_all, "task": best(path)}

    figures = in_a_fork(whole)
    tasks = figures.pop("tasks")
    models = {number: in_a_fork(partial(for_models, number)) for number in MODELS}
    return {**figures, "task": {task: in_a_fork(partial(for_task, task)) for task in tasks}, "models": models}


def best(path: Path) -> float:
    """The least of several parses: what others do on the machine only adds."""
    return min(parse(path) for _ in range(REPEATS))


@contextmanager
def checkout(number: int) -> Iterator[Path]:
    """A checkout with so many models, all like the checkout's own."""
    spec = json.loads((ROOT / "models" / MODEL / "spec.json").read_text())
    with tempfile.TemporaryDirectory(prefix="airloop-bench-") as folder:
        for name in ("dvc.yaml", "jobs.yaml", "params.yaml"):
            shutil.copy(ROOT / name, folder)
        for name in (f"model{index:02d}" for index in range(number)):
            made = Path(folder) / "models" / name
            made.mkdir(parents=True)
            (made / "spec.json").write_text(json.dumps({**spec, "name": name}))
        yield Path(folder)


def _about(dag_id: str, task_id: str) -> dict[str, str]:
    """What Airflow sets in the process of a task."""
    return {"_AIRFLOW_PARSING_CONTEXT_DAG_ID": dag_id, "_AIRFLOW_PARSING_CONTEXT_TASK_ID": task_id}


def further(figures: dict[str, Any]) -> float:
    """Milliseconds of CPU that each further model adds to the parse of a file."""
    of: dict[int, float] = {int(number): each["all"] for number, each in figures["models"].items()}
    return round(1000 * (of[MODELS[-1]] - of[MODELS[0]]) / (MODELS[-1] - MODELS[0]), 2)


def measure(home: Home, repeats: int) -> list[Row]:
    """Rows of each DAG: its file first and again, and the dearest of its tasks."""
    from bench.frame import Row, run

    del home
    said = [run([sys.executable, "-m", "bench.dag_parse"], ROOT).output for _ in range(repeats)]
    seen = [json.loads(text[text.index("{\n") :]) for text in said]
    rows = [
        Row(
            "Airflow's SDK itself",
            "CPU-s",
            tuple(s["sdk"] for s in seen),
            "imported before; not part of the rows below",
        )
    ]
    for name in seen[0]["dags"]:
        dags = [s["dags"][name] for s in seen]
        rows += [
            Row(f"{name}: first parse", "CPU-s", tuple(d["first"] for d in dags), "with what it imports"),
            Row(f"{name}: parsed again", "CPU-s", tuple(d["again"] for d in dags), "beyond imports"),
            Row(
                f"{name}: for its dearest task",
                "CPU-s",
                tuple(max(d["task"].values()) for d in dags),
                "with its operator",
            ),
            Row(
                f"{name}: each further model",
                "CPU-ms",
                tuple(further(d) for d in dags),
                "of 50, when the file is parsed",
            ),
        ]
    rows.append(
        Row(
            "each further model, all five files",
            "CPU-ms",
            tuple(round(sum(further(d) for d in s["dags"].values()), 2) for s in seen),
            "of 50; a file is parsed by itself",
        )
    )
    return rows


def main() -> None:
    """Print the figures of every DAG."""
    with tempfile.TemporaryDirectory() as home:
        os.environ.update(AIRFLOW_HOME=home, AIRFLOW__CORE__LOAD_EXAMPLES="False")
        sys.path.insert(0, str(ROOT / "plugins"))
        start = time.process_time()
        import airflow.sdk

        for name in SDK:
            getattr(airflow.sdk, name)
        sdk = round(time.process_time() - start, 3)
        dags = {path.stem: figures_of(path) for path in sorted((ROOT / "dags").glob("*.py"))}
    print(json.dumps({"sdk": sdk, "dags": dags}, indent=1))


if __name__ == "__main__":
    main()
