"""Stages and jobs as a process on the Airflow worker: what `python -m tasks.running` does, as an operator."""

from __future__ import annotations

import json
import sys
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from airflow.sdk import Asset, BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from airloop.assets import announce
from airloop.keys import interval_of, run_key, span_of, variables
from airloop.process import Command, WaitError, conclude
from airloop.settings import code, inherited
from airloop.waiting import REFUSED, SKIPPED, clear_notes, give_up, wait
from tasks.core.results import Result, Status

Arguments = Callable[[Mapping[str, Any]], Sequence[str]]
"""From the task's context, further arguments for a job's command."""


def call(command: Command, argv: Sequence[str], context: Mapping[str, Any], log: Any) -> dict[str, Any]:
    """Run ``python ARGV`` in the checkout; returns its report. Raises as ``process.conclude`` does."""
    return report(result_of(command, argv, context, log))


def result_of(command: Command, argv: Sequence[str], context: Mapping[str, Any], log: Any) -> Result:
    """Run ``python ARGV`` in the checkout; returns its result document. Raises as ``process.conclude`` does."""
    env = inherited({**variables(context), "PYTHONPATH": str(code())})
    return conclude(command.run([sys.executable, *argv], cwd=code(), env=env, log=log))


def report(result: Result) -> dict[str, Any]:
    """What a task reports of what it did: the payload and, of a span, which intervals are done and why others were refused."""
    if len(result.intervals) < 2:
        return dict(result.payload)
    refused = {key: one.reason for key, one in result.intervals.items() if one.status is Status.REFUSED}
    skipped = [key for key, one in result.intervals.items() if one.status is Status.SKIPPED]
    return {**result.payload, "intervals": result.done(), REFUSED: refused, SKIPPED: skipped}


def begins_run(task: BaseOperator) -> bool:
    """Whether ``task`` is where its DAG's runs begin, also when they are cleared and begin again."""
    return not task.upstream_task_ids


def running_argv(
    action: str,
    names: Sequence[str],
    context: Mapping[str, Any],
    rest: Sequence[str] = (),
    *,
    model: str,
    begins: bool = False,
) -> list[str]:
    """Build the command line of ``tasks.running`` for this run.

    Args:
        action: its sub-command.
        names: stages of dvc.yaml, or one job of jobs.yaml.
        context: the task's.
        rest: further arguments: of a job's command, or of the sub-command.
        model: whose run it is.
        begins: whether the task begins the run.

    Raises:
        AirflowFailException: the run has no interval, or no span.
    """
    try:
        first, last = span_of(context)
    except ValueError as error:
        raise AirflowFailException(str(error)) from None
    params = context.get("params") or {}
    argv = ["-m", "tasks.running", action, *names, *whose(model, context), "--first", first, "--last", last]
    if begins:
        argv.append("--begins")
    if params.get("reason"):
        argv.append(f"--reason={params['reason']}")  # it may begin like an option
    if params.get("exploratory"):
        argv.append("--exploratory")
    for name, value in (params.get("overrides") or {}).items():
        argv += ["--set", f"{name}={json.dumps(value)}"]
    return [*argv, *rest]


def job_argv(name: str, context: Mapping[str, Any], arguments: Sequence[str], *, model: str) -> list[str]:
    """Command line of a job that needs no workspace, and so no interval."""
    rest = ["--rest", *arguments] if arguments else []
    return ["-m", "tasks.running", "job", name, *whose(model, context), *rest]


def whose(model: str, context: Mapping[str, Any]) -> list[str]:
    """The part of a command line that says which run of which model it is."""
    return ["--run", run_key(context), "--model", model]


class RunOperator(BaseOperator):
    """Base of the operators that run stages and jobs: what they report, and how they wait.

    A run that needs an interval that has not landed yet gives its slot back until it has, or until it gives up.
    """

    model: str
    """Name of the model whose run it is. Each operator sets it: another __init__ here would cost each task of each model."""
    resumable = False
    """Whether a run that has waited in vain is started again by itself."""

    def execute(self, context: Any) -> Any:
        """Do the work; skip, fail, wait or retry as its end says. The report is the XCom and its events' extra."""
        if self.resumable:
            clear_notes(context)
        try:
            result = self.perform(context)
        except WaitError as error:
            wait(self, error)
            raise
        announce_all(self.outlets, result, context)
        return result

    def after_waiting(self, context: Any, event: Mapping[str, Any]) -> Any:
        """Go on when what was waited for is there, or give up."""
        if not event["landed"]:
            give_up(self, context, event)
        return self.execute(context)

    @abstractmethod
    def perform(self, context: Any) -> dict[str, Any]:
        """Do the work and return its report."""


class ProcessOperator(RunOperator):
    """Runs stages, or a job, in a process on the worker.

    Args:
        model: name of the model whose run it is.
        action: ``stage`` or ``job`` of tasks.running; ``direct`` for a job that needs no workspace.
        names: stages of dvc.yaml in order, or the job's name.
        arguments: further arguments for a job's command.
    """

    def __init__(
        self, *, model: str, action: str, names: Sequence[str], arguments: Arguments | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.action = action
        self.names = list(names)
        self.arguments = arguments
        self._command = Command()

    def perform(self, context: Any) -> dict[str, Any]:
        """Run the command."""
        arguments = list(self.arguments(context)) if self.arguments else []
        if self.action == "direct":
            argv = job_argv(self.names[0], context, arguments, model=self.model)
        else:
            rest = ["--rest", *arguments] if arguments else []
            argv = running_argv(self.action, self.names, context, rest, model=self.model, begins=begins_run(self))
        return call(self._command, argv, context, self.log)

    def on_kill(self) -> None:
        """End the process and all it started."""
        self._command.stop()


def announce_all(outlets: Sequence[Any], result: Mapping[str, Any], context: Mapping[str, Any]) -> None:
    """Announce ``result`` on each asset among ``outlets``."""
    for outlet in outlets:
        if isinstance(outlet, Asset):
            announce(context["outlet_events"], outlet, result, interval_of(context))
