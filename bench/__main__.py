"""`make bench`: measure on this machine, print a table and store it as JSON.

    python -m bench [NAME...] [--repeats 3] [--out reports/bench.json] [--home FOLDER]

A measurement that fails does not take the others with it; the exit code says so.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.frame import Machine, Row
from bench.home import Home, opened
from local.errors import LocalError
from local.paths import ROOT
from tasks.core.errors import AirloopError

MEASUREMENTS = {
    "stages": "seconds and peak memory of every stage and job",
    "dvc": "DVC's own share of a run",
    "airflow": "Airflow's own share of a run (starts a stack of its own on free ports)",
    "features": "features rows/s: Spark beside DuckDB, equal output",
    "scoring": "batch scoring rows/s: Spark beside a plain ONNX Runtime loop and MLflow's spark_udf",
    "training": "training rows/s and CPU of both families, DDP over cores, memory against the size of the data",
    "resuming": "what checkpoints cost a training, and seconds from SIGKILL to the first new step",
    "dag_parse": "CPU-seconds of parsing each DAG file, beyond Airflow's own SDK",
    "growth": "opening a run, landing, the service's poll and the Airflow page with 12 to 43,800 landed intervals",
    "online": "the online service beside `mlflow models serve`: CPU a request, requests/s, p50, p99",
}


def main() -> int:
    """Run the measurements that were named, or all; returns 1 when one of them failed."""
    arguments = _parser().parse_args()
    if unknown := [name for name in arguments.names if name not in MEASUREMENTS]:
        _parser().error(f"no measurement {', '.join(unknown)}; there are {', '.join(MEASUREMENTS)}")
    console, machine = Console(width=None if sys.stdout.isatty() else 140), Machine()
    _warn(console, machine)
    try:
        with tempfile.TemporaryDirectory(prefix="airloop-bench-") as temporary:
            folder = (arguments.home or Path(temporary) / "home").resolve()
            with opened(folder) as home:
                results, errors = _all(arguments.names or list(MEASUREMENTS), home, arguments.repeats, machine, console)
    except (LocalError, AirloopError, RuntimeError) as error:
        console.print(f"[bold red]Stopped:[/] {error}", highlight=False)
        return 1
    report: dict[str, Any] = {
        "machine": machine.describe(),
        "busy": machine.busy(),
        "results": results,
        "errors": errors,
    }
    _store(report, arguments.out)
    _say_where(console, machine, report["machine"], arguments.out)
    return 1 if errors else 0


def _all(
    names: list[str], home: Home, repeats: int, machine: Machine, console: Console
) -> tuple[dict[str, Any], dict[str, str]]:
    """Results and errors by name of measurement: one that fails does not take the others with it."""
    results: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for name in names:
        try:
            rows = importlib.import_module(f"bench.{name}").measure(home, repeats)
        except Exception as error:  # noqa: BLE001 - whatever it was, it is printed and stored, and the exit code says so
            traceback.print_exc()
            errors[name] = str(error)
            continue
        machine.look()
        results[name] = [row.as_dict() for row in rows]
        console.print(table(f"{name}: {MEASUREMENTS[name]}", rows))
    return results, errors


def table(title: str, rows: list[Row]) -> Table:
    """The rows of one measurement, with the columns that any of them fills."""
    shown = Table(title=title, title_justify="left")
    shown.add_column("what", overflow="fold")
    for heading in ("median", "min", "max", "unit"):
        shown.add_column(heading, justify="left" if heading == "unit" else "right", no_wrap=True)
    extras = [key for key in ("cpu_s", "peak_mb") if any(key in row.more for row in rows)]
    for key in extras:
        shown.add_column({"cpu_s": "CPU s", "peak_mb": "peak MiB"}[key], justify="right", no_wrap=True)
    shown.add_column("note", overflow="fold")
    for row in rows:
        found = row.as_dict()
        numbers = [_number(found[key]) for key in ("median", "min", "max")]
        shown.add_row(
            row.name, *numbers, row.unit, *(_number(row.more[k]) if k in row.more else "" for k in extras), row.note
        )
    return shown


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _warn(console: Console, machine: Machine) -> None:
    if reason := machine.busy():
        console.print(
            f"[bold red]THIS MACHINE IS BUSY:[/] {reason}. These are not numbers to publish.", highlight=False
        )


def _say_where(console: Console, machine: Machine, said: dict[str, Any], out: Path) -> None:
    console.print(
        f"{said['cpu']}, {said['cores']} cores, {said['memory_gb']} GiB, {said['system']}, Python {said['python']}; "
        f"load {said['load_before']} before, {said['load_highest']} at most; steal {said['steal_share']:.1%}",
        highlight=False,
    )
    _warn(console, machine)
    console.print(f"Stored in {out}", highlight=False)


def _store(report: dict[str, Any], out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    listed = "\n".join(f"  {name:<10} {what}" for name, what in MEASUREMENTS.items())
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=f"{__doc__}\nMeasurements:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="measurements to take; all by default")
    parser.add_argument("--repeats", type=int, default=3, help="how often each is taken (default 3)")
    parser.add_argument("--out", type=Path, default=ROOT / "reports/bench.json", help="where the JSON goes")
    parser.add_argument("--home", type=Path, help="prepare the data here, keep it, and use it again the next time")
    return parser


if __name__ == "__main__":
    sys.exit(main())
