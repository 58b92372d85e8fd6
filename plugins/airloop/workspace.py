"""Stages and acts as a process on the Airflow worker: what `python -m tasks.common.workspace` does, as an operator."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from airloop.assets import announce
from airloop.keys import month_of, require_month, run_key, variables
from airloop.process import Command, conclude

if TYPE_CHECKING:
    from tasks.common.artefacts import Store

Arguments = Callable[[Mapping[str, Any]], Sequence[str]]
"""From the task's context, further arguments for an act's script."""


def code() -> Path:
    """The checkout whose tasks/ and dvc.yaml are used: AIRLOOP_CODE, else the one that this file is part of."""
    return Path(os.environ.get("AIRLOOP_CODE") or Path(__file__).resolve().parents[2])


def store() -> Store:
    """The store, for what runs in Airflow itself."""
    if str(code()) not in sys.path:  # the api-server knows plugins/, not the checkout
        sys.path.append(str(code()))
    from tasks.common.environment import store as of_environment

    return of_environment()


def call(command: Command, argv: Sequence[str], context: Mapping[str, Any], log: Any) -> dict[str, Any]:
    """Run ``python ARGV`` in the checkout; returns what it wrote to AIRLOOP_RESULT, ``{}`` if nothing.

    Raises as ``process.conclude`` does.
    """
    with tempfile.TemporaryDirectory(prefix="airloop-") as folder:
        result = Path(folder) / "result.json"
        env = {**os.environ, **variables(context), "PYTHONPATH": str(code()), "AIRLOOP_RESULT": str(result)}
        conclude(command.run([sys.executable, *argv], cwd=code(), env=env, log=log))
        return dict(json.loads(result.read_text())) if result.exists() else {}


def begins_run(task: BaseOperator) -> bool:
    """Whether ``task`` is where its DAG's runs begin, also when they are cleared and begin again."""
    return not task.upstream_task_ids


def workspace_argv(
    action: str, names: Sequence[str], context: Mapping[str, Any], rest: Sequence[str] = (), *, begins: bool = False
) -> list[str]:
    """Command line of ``tasks.common.workspace`` for this run; AirflowFailException when the run has no month."""
    try:
        month = require_month(context)
    except ValueError as error:
        raise AirflowFailException(str(error)) from None
    argv = ["-m", "tasks.common.workspace", action, *names]
    argv += ["--dag", context["dag_run"].dag_id, "--run", run_key(context), "--month", month]
    if begins:
        argv.append("--begins")
    for name, value in ((context.get("params") or {}).get("overrides") or {}).items():
        argv += ["--set", f"{name}={json.dumps(value)}"]
    return [*argv, *(["--rest", *rest] if rest else [])]


class WorkspaceOperator(BaseOperator):
    """Runs stages or one act in the run's workspace and returns what they report as XCom.

    With outlets, the report is also the extra of their events, which are about the run's month.

    Args:
        action: ``stage`` or ``act`` of tasks.common.workspace; ``direct`` for an act that needs no data of a run.
        names: stages of dvc.yaml in order, or the act's name.
        arguments: further arguments for an act's script.
    """

    def __init__(self, *, action: str, names: Sequence[str], arguments: Arguments | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.action = action
        self.names = list(names)
        self.arguments = arguments
        self._command = Command()

    def execute(self, context: Any) -> dict[str, Any]:
        """Run it; skip, fail or retry as its end says."""
        rest = list(self.arguments(context)) if self.arguments else []
        if self.action == "direct":
            argv = ["-m", f"tasks.{self.names[0]}", *rest]
        else:
            argv = workspace_argv(self.action, self.names, context, rest, begins=begins_run(self))
        return self.report(call(self._command, argv, context, self.log), context)

    def report(self, result: dict[str, Any], context: Any) -> dict[str, Any]:
        """Announce ``result`` on all outlets."""
        announce_all(self.outlets, result, context)
        return result

    def on_kill(self) -> None:
        """End the process and all it started."""
        self._command.stop()


def announce_all(outlets: Sequence[Any], result: Mapping[str, Any], context: Mapping[str, Any]) -> None:
    """Announce ``result`` on each asset among ``outlets``."""
    for outlet in outlets:
        if isinstance(outlet, Asset):
            announce(context["outlet_events"], outlet, result, month_of(context))
