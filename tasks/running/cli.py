"""Runs stages and jobs of a run in the run's workspace: what every place calls, in a process of its own.

python -m tasks.running stage ingest validate --run KEY --first 2013-04 --last 2013-04     make their results
python -m tasks.running job publish --run KEY --first 2013-04 --last 2013-04               run a job
python -m tasks.running begin features ...      prepare one that something else runs (spark-submit); the result says how
python -m tasks.running complete features ...   record what it made
python -m tasks.running restore features ...    record a known result without its data
python -m tasks.running pod-result train POD USAGE ...   what a pod recorded
python -m tasks.running record-usage JSON ...            what pods used
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import yaml

from tasks.core import results
from tasks.core.errors import AirloopError, ConfigError
from tasks.core.results import Result, Status
from tasks.running import guard, spans
from tasks.running.catalogue import Catalogue, Work
from tasks.running.pod_record import keep_usage, record, recorded, usage
from tasks.running.runs import Request, Span
from tasks.running.workspace import opened
from tasks.settings.environment import environment, store


def main() -> None:
    """Parse the command line and do what it asks; ends the process unless all is done."""
    if not guard.group():
        # The first process of a container ignores SIGTERM unless it says otherwise; `command` passes it on to a stage.
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    arguments = _parser().parse_args()
    _work_for(arguments)
    result = arguments.action(arguments)
    results.write(result)
    if result.status is not Status.DONE:
        print(f"{result.status}: {result.reason}", file=sys.stderr, flush=True)
        sys.exit(result.exit_code)


def _work_for(arguments: argparse.Namespace) -> None:
    """Make the model that was asked for the one of this process and of those below it."""
    model = getattr(arguments, "model", None) or environment().model
    os.environ["AIRLOOP_MODEL"] = model
    environment.cache_clear()


def stage(arguments: argparse.Namespace) -> Result:
    """Make the results of stages, one after the other, for each interval of the span."""
    works = [_catalogue().stage(name) for name in arguments.names]

    def work() -> Result:
        helps = _is_helper()
        with opened(_request(arguments, works[0]), store(), begins=arguments.begins, helps=helps) as workspace:
            return spans.help_with(workspace, works[-1]) if helps else spans.stages(workspace, works)

    return _recorded_as_pod(arguments, work)


def job(arguments: argparse.Namespace) -> Result:
    """Run a job, with the data it reads in the run's workspace."""
    job_work = _catalogue().job(arguments.names[0])
    if not job_work.window:
        os.environ["PYTHONPATH"] = str(environment().code)
        argv = job_work.argv(arguments.last)
        os.execv(sys.executable, [sys.executable, *argv[1:], *arguments.rest])  # noqa: S606 - it needs nothing of this process

    def work() -> Result:
        with opened(_request(arguments, job_work), store(), begins=arguments.begins) as workspace:
            return spans.job(workspace, job_work, arguments.rest)

    return _recorded_as_pod(arguments, work)


def begin(arguments: argparse.Namespace) -> Result:
    """Prepare a stage or job that something else runs; the payload has `known`, `begun`, `workspace`, `argv` and `lease`."""
    work = _catalogue().find(arguments.names[0])
    with opened(_request(arguments, work), store(), begins=arguments.begins) as workspace:
        return spans.begin(workspace, work, arguments.rest)


def complete(arguments: argparse.Namespace) -> Result:
    """Record what something else made, unless its inputs changed meanwhile."""
    work = _catalogue().stage(arguments.names[0])
    with opened(_request(arguments, work), store()) as workspace:
        made = results.parse_intervals(json.loads(arguments.ended)) or {workspace.span.last: spans.DONE}
        return spans.complete(workspace, work, made)


def restore(arguments: argparse.Namespace) -> Result:
    """Record a stage whose result is known, without running it or fetching a byte of data; `known` says whether it is."""
    work = _catalogue().stage(arguments.names[0])
    with opened(_request(arguments, work), store(), begins=arguments.begins) as workspace:
        return spans.restore(workspace, work)


def pod_result(arguments: argparse.Namespace) -> Result:
    """Record what a pod used; say what it recorded, and the crashes of this stage's earlier pods."""
    (name,), pod = arguments.names, arguments.pod
    made, used = recorded(arguments.run, pod, store()), {"pod": pod, **json.loads(arguments.usage)}
    if made:
        used.pop("error", None)
    keep_usage(arguments.run, used, store())
    earlier = [use for use in usage(arguments.run, store()) if use["stage"] == name and use["pod"] != pod]
    errors = [use["error"] for use in earlier if "error" in use]
    return Result(payload={"recorded": made, "errors": errors})


def record_usage(arguments: argparse.Namespace) -> Result:
    """Record what several pods used: a JSON list of what `keep_usage` takes."""
    for use in json.loads(arguments.usage):
        keep_usage(arguments.run, use, store())
    return Result()


def _is_helper() -> bool:
    return int(os.environ.get("PET_NODE_RANK") or 0) > 0


def _recorded_as_pod(arguments: argparse.Namespace, work: Callable[[], Result]) -> Result:
    """Keep the result of ``work`` in the store under the pod's name, if this is one: what it recorded is all that counts."""
    if not arguments.pod:
        return work()
    try:
        result = work()
    except AirloopError as error:
        result = error.result()
    if _is_helper() and result.status is Status.DONE:
        return result
    digest = record(arguments.run, arguments.pod, result.to_dict(), store())
    print(f"recorded {digest}", flush=True)
    return result


def _catalogue() -> Catalogue:
    return Catalogue(environment().code)


def _request(arguments: argparse.Namespace, work: Work) -> Request:
    if not arguments.first:
        raise ConfigError(f"{work.name} works on intervals; say which: --first 2013-04, and --last for more than one.")
    span = Span(arguments.model, arguments.first, arguments.last or arguments.first)
    return Request(arguments.run, span, work.window, dict(arguments.set), arguments.reason, arguments.exploratory)


def _setting(text: str) -> tuple[str, Any]:
    """``train.xgboost.eta=0.2`` as a name and a YAML value."""
    name, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE, for example train.xgboost.eta=0.2")
    found = yaml.safe_load(value)
    return name, value if isinstance(
        found, dt.date
    ) else found  # a date is the key of an interval, or typed by the model


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tasks.running", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for action in (stage, job, begin, complete, restore, pod_result, record_usage):
        command = commands.add_parser(action.__name__.replace("_", "-"), help=(action.__doc__ or "").splitlines()[0])
        command.set_defaults(action=action)
        command.add_argument("--run", required=True, help="key of the run; its workspace is AIRLOOP_HOME/runs/KEY")
        command.add_argument("--model", default=environment().model, help="whose run it is")
        if action is record_usage:
            command.add_argument("usage", help="JSON")
            continue
        many = action is stage
        command.add_argument("names", nargs="+" if many else 1, metavar="NAME", help="of dvc.yaml or jobs.yaml")
        command.add_argument("--pod", default=os.environ.get("AIRLOOP_POD", ""), help="record the result as this pod's")
        if action is pod_result:
            command.add_argument("usage", help="JSON")
            continue
        command.add_argument("--first", default="", help="first interval of the span: 2013-04")
        command.add_argument("--last", default="", help="last interval of the span; the first by default")
        command.add_argument(
            "--begins", action="store_true", help="the run's first task: begin it with the present code and data"
        )
        command.add_argument(
            "--ended", default="{}", help="JSON: what became of each interval, as a result document has it"
        )
        command.add_argument("--reason", default="", help="why, for the run's record")
        command.add_argument(
            "--set", action="append", type=_setting, default=[], metavar="NAME=VALUE",
            help="a setting for this run only: of train, or export.quantize",
        )  # fmt: skip
        command.add_argument(
            "--exploratory", action="store_true", help="begin a run that may set anything, and registers nothing"
        )
        command.add_argument(
            "--rest", nargs=argparse.REMAINDER, default=[], help="further arguments for a job's command"
        )
    return parser
