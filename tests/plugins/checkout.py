"""A checkout whose `python -m tasks.running` only says what it was asked, and ends as its arguments ask."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUNNING = """
import json, os, sys
from tasks.core.results import Interval, Result, Status, parse_intervals, write
argv = sys.argv[1:]
action, name = argv[:2]
key = argv[argv.index("--run") + 1]
with open("asked", "a") as file: print(action, name, file=file)
payload = {"interval": "2013-04", "run": key, "argv": argv, "who": os.environ["AIRLOOP_WHO"], "cwd": os.getcwd(),
           "path": os.environ["PYTHONPATH"]}
if name == "rescore": payload = {**payload, "intervals": ["2013-05", "2013-04"]}
if action == "begin":
    known = os.path.exists("known")
    payload = {"known": known, "begun": [] if known else ["2013-04"], "behind": [], "workspace": os.path.abspath("run"), "lease": os.path.abspath("run.lease"),
               "argv": ["python", f"tasks/{name}.py", "--interval", "2013-04"]}
intervals = {}
if action == "begin" and os.path.exists("begin.json"):  # of a span, of which the other intervals are known
    given = json.load(open("begin.json"))
    payload |= {**given, "argv": [*payload["argv"][:2], *given["argv"]]}
    for number in range(int(argv[argv.index("--first") + 1][-2:]), int(argv[argv.index("--last") + 1][-2:]) + 1):
        end = Interval(Status.WAITING, "behind") if (key := f"2013-{number:02}") in given["behind"] else Interval(Status.DONE)
        intervals |= {} if key in given["begun"] else {key: end}
if "--ended" in argv: intervals = parse_intervals(json.loads(argv[argv.index("--ended") + 1]))
if action == "complete": payload = {"stages": [f"{name}@2013-04"]}
result = Result(payload=payload, intervals=intervals)
if "skip" in argv: result = Result(Status.SKIPPED, "the gate says no")
if "refuse" in argv: result = Result(Status.REFUSED, "31% of the rows are bad")
if "wait" in argv: result = Result(Status.WAITING, "the registry does not answer")
if "wait-for" in argv: result = Result(Status.WAITING, "2013-03 has not landed.", {"waits_for": "2013-03"})
if "crash" in argv: raise RuntimeError("a bug")
if "span" in argv:
    done, refused = Interval(Status.DONE), Interval(Status.REFUSED, "bad rows")
    result = Result(payload=payload, intervals={"2013-05": done, "2013-04": refused, "2013-03": done})
write(result)
sys.exit(result.exit_code)
"""


def make(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make it in ``folder`` and let Airflow's side use it; what was asked is in its file ``asked``, line by line."""
    for name in ("tasks/__init__.py", "tasks/core/__init__.py", "tasks/core/results.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    (folder / "tasks/running").mkdir()
    (folder / "tasks/running/__init__.py").touch()
    (folder / "tasks/running/__main__.py").write_text(RUNNING)
    for name in ("dvc.yaml", "jobs.yaml"):
        shutil.copy(ROOT / name, folder)
    monkeypatch.setenv("AIRLOOP_CODE", str(folder))
    return folder
