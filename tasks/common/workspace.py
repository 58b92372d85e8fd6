"""Runs one stage or one act of a run in the run's workspace: what every place calls, in a process of its own.

python -m tasks.common.workspace stage ingest@2013-04 --dag ingest --run KEY --month 2013-04
python -m tasks.common.workspace prepare features@2013-04 ...   then run the argv it prints, then
python -m tasks.common.workspace commit features@2013-04 ...
python -m tasks.common.workspace act publish ...
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from tasks.common import params
from tasks.common.artefacts import to_json, write_atomic
from tasks.common.dvc_repo import Project, StageError, read_lock
from tasks.common.environment import store
from tasks.common.errors import ConfigError, run_main
from tasks.common.pod_record import keep_usage, recorded, usage
from tasks.common.results import emit
from tasks.common.runs import open_run, save_record

ATTEST = ".airloop"
NEEDS = {
    "publish": ["manifest@{month}", "validate@{month}"],
    "register": ["train", "evaluate", "gate"],
    "score": ["features@{month}"],
    "monitor": ["features"],
}
"""Outputs that an act reads: stages, or all months of one, in its run's window."""
SEARCHED = "train"
"""The stage whose settings a search may choose."""


def main() -> None:
    """Parse the command line and run one stage or act."""
    arguments = _parser().parse_args()
    overrides = dict(arguments.set)
    root = open_run(arguments.run, arguments.dag, arguments.month, overrides, store(), begins=arguments.begins)
    settle(root, arguments.run)
    with contextlib.chdir(root):
        arguments.action(root, arguments)


def settle(root: Path, run: str) -> None:
    """Make this process's environment that of the run: `python` is this interpreter, `import tasks` the run's own copy."""
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    os.environ["PYTHONPATH"] = str(root)
    os.environ.setdefault("AIRLOOP_RUN", run)


def stage(root: Path, arguments: argparse.Namespace) -> None:
    """Reproduce the stages in order, push their outputs, keep the record."""
    names = [_item(name, arguments.month) for name in arguments.names]
    for name in names:
        search_first(root, name, _run)
    with _project(root) as project:
        for name in names:
            project.materialise(missing(root, project.producers(name)))
            project.reproduce([name])
        project.push(names)
    save_record(root, store(), names)
    emit({"month": arguments.month, "run": arguments.run, "stages": names})


def search_first(root: Path, name: str, run: Callable[[list[str]], None]) -> None:
    """Let tasks/search.py choose the settings of ``name``, where params.yaml grants it a budget; the run's record keeps them.

    It is not a task of its own, which would cost each training a process - in a cluster, a pod - to find out that it is
    off; and so it runs where the training will, on its GPU and with its tries (docs/adr/0020).
    """
    if name != SEARCHED or not params.load(root / "params.yaml").train.search.on:
        return
    with _project(root) as project:
        project.materialise(missing(root, project.producers(name)))
    run(["python", "tasks/search.py"])
    save_record(root, store(), [])


def prepare(root: Path, arguments: argparse.Namespace) -> None:
    """Get the workspace ready for somebody else to run the stage; prints where, what, and whether there is need to."""
    name = _item(arguments.names[0], arguments.month)
    with _project(root) as project:
        project.materialise(missing(root, project.producers(name)))
        cached = project.probe(name)
        if cached:
            project.reproduce([name])
            project.push([name])
            save_record(root, store(), [name])
        else:
            write_atomic(root / ATTEST / f"{name}.json", to_json(project.inputs(name)))
        answer = {"workspace": str(root), "cached": cached, "argv": project.argv(name), "month": arguments.month}
    emit(answer)
    print(json.dumps(answer), flush=True)


def commit(root: Path, arguments: argparse.Namespace) -> None:
    """Record what somebody else made, unless its inputs changed meanwhile."""
    name = _item(arguments.names[0], arguments.month)
    attest = root / ATTEST / f"{name}.json"
    if not attest.exists():
        raise StageError(f"stage {name} was not prepared in {root}; run `prepare` before `commit`.")
    before = json.loads(attest.read_bytes())
    with _project(root) as project:
        now = project.inputs(name)
        changed = sorted(path for path in before.keys() | now.keys() if before.get(path) != now.get(path))
        if changed:
            raise StageError(
                f"stage {name}: {', '.join(changed)} changed while it ran, so its result says nothing about either "
                "version and is not recorded. Run it again."
            )
        project.commit(name)
        project.push([name])
    save_record(root, store(), [name])
    emit({"month": arguments.month, "run": arguments.run, "stages": [name]})


def adopt(root: Path, arguments: argparse.Namespace) -> None:
    """Record a stage whose result is known without running it or fetching a byte of data; says whether it is known."""
    name = _item(arguments.names[0], arguments.month)
    with _project(root) as project:
        known = project.adopt(name)
    if known:
        save_record(root, store(), [name])
    emit({"cached": known, "stage": name, "month": arguments.month, "run": arguments.run})


def outcome(_: Path, arguments: argparse.Namespace) -> None:
    """Keep what a pod used (``--rest POD USAGE``); say what it recorded, and the errors of this work's earlier pods."""
    pod, use = arguments.rest
    keep_usage(arguments.run, {"pod": pod, **json.loads(use)}, store())
    earlier = [use for use in usage(arguments.run, store()) if use["stage"] == arguments.names[0] and use["pod"] != pod]
    errors = [use["error"] for use in earlier if "error" in use]
    emit({"result": recorded(arguments.run, pod, store()), "errors": errors})


def used(_: Path, arguments: argparse.Namespace) -> None:
    """Keep what several pods used: ``--rest`` is a JSON list of what `keep_usage` takes."""
    for use in json.loads(arguments.rest[0]):
        keep_usage(arguments.run, use, store())


def act(root: Path, arguments: argparse.Namespace) -> None:
    """Run a script that acts on the world (register, deploy, ...) in the workspace, with the data it reads there."""
    name, *rest = arguments.names
    bring(root, name, arguments.month)
    _run([sys.executable, f"tasks/{name}.py", *rest, *arguments.rest])


def _run(argv: list[str]) -> None:
    """Run the command; ends this process with its exit code unless that is 0."""
    code = subprocess.run(argv, check=False).returncode
    if code:
        raise SystemExit(code if code > 0 else 128 - code)


def ready(root: Path, arguments: argparse.Namespace) -> None:
    """Bring what an act reads into the workspace, for somebody else (spark-submit) to run it; prints where."""
    bring(root, arguments.names[0], arguments.month)
    answer = {"workspace": str(root), "month": arguments.month}
    emit(answer)
    print(json.dumps(answer), flush=True)


def bring(root: Path, act_name: str, month: str) -> None:
    """Put what the act reads into the workspace."""
    wanted = [need.format(month=month) for need in NEEDS.get(act_name, [])]
    if not wanted:
        return
    with _project(root) as project:
        locked = [s for s in read_lock(root) if s in wanted or s.split("@")[0] in wanted]
        project.materialise(missing(root, locked))


def missing(root: Path, producers: list[str]) -> list[str]:
    """Of these stages, those with an output that is not in the workspace yet."""
    lock = read_lock(root)
    return [p for p in producers if not all((root / out["path"]).exists() for out in lock[p]["outs"])]


def _item(name: str, month: str) -> str:
    """``features`` of this month is the stage ``features@2013-04``, where dvc.yaml has the stage for each month."""
    if "@" in name:
        return name
    stages = yaml.safe_load(Path("dvc.yaml").read_text())["stages"]
    if name not in stages:
        raise ConfigError(f"dvc.yaml has no stage {name!r}; it has {', '.join(stages)}.")
    return f"{name}@{month}" if "foreach" in stages[name] else name


@contextlib.contextmanager
def _project(root: Path) -> Iterator[Project]:
    project = Project(root)
    try:
        yield project
    finally:
        project.close()


def _setting(text: str) -> tuple[str, Any]:
    """``gate.floors.auc=0.7`` as a name and a YAML value."""
    name, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE, for example gate.floors.auc=0.7")
    return name, yaml.safe_load(value)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for action in (stage, prepare, commit, adopt, outcome, used, act, ready):
        command = commands.add_parser(action.__name__, help=(action.__doc__ or "").splitlines()[0])
        command.add_argument("names", nargs="+", help="stages of dvc.yaml (the month is added), or one act's name")
        command.add_argument("--dag", required=True, help="ingest, train, deploy, score or monitor")
        command.add_argument("--run", required=True, help="key of the run; its workspace is AIRLOOP_HOME/runs/KEY")
        command.add_argument("--month", required=True, help="YYYY-MM")
        command.add_argument(
            "--begins",
            action="store_true",
            help="the run's first task: begin it afresh, with the present code and data",
        )
        command.add_argument(
            "--set",
            action="append",
            type=_setting,
            default=[],
            metavar="NAME=VALUE",
            help="a setting of params.yaml for this run only",
        )
        command.add_argument("--rest", nargs=argparse.REMAINDER, default=[], help="arguments for the act's script")
        command.set_defaults(action=action)
    return parser


if __name__ == "__main__":
    run_main(main)
