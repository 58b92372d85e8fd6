"""Works through the intervals of a span: one that is refused or has to wait never fails the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tasks.core import results
from tasks.core.errors import AirloopError, warn
from tasks.core.results import Interval, Result, Status
from tasks.running import command
from tasks.running.catalogue import Work
from tasks.running.command import Ended
from tasks.running.runs import save_record
from tasks.running.workspace import Workspace
from tasks.settings import settings_files


def stages(workspace: Workspace, works: Sequence[Work]) -> Result:
    """Make the results of ``works`` in order, interval by interval; stages without intervals once, at the end."""

    def make(key: str, chosen: Sequence[Work]) -> dict[str, Any]:
        for work in chosen:
            _stage(workspace, work, key)
        return {}

    keyed, whole = [w for w in works if w.keyed], [w for w in works if not w.keyed]
    span = intervals(workspace)
    result = _each(span, lambda key: make(key, keyed)) if keyed else done(workspace.run, works, span)
    if result.status is Status.DONE and whole:
        last = _each(span[-1:], lambda key: make(key, whole))
        result = Result(last.status, last.reason, intervals={**result.intervals, **last.intervals})
    made = done(workspace.run, works, result.done() or span).payload
    return Result(result.status, result.reason, made, result.intervals)


def job(workspace: Workspace, work: Work, arguments: Sequence[str]) -> Result:
    """Run a job for each interval of the span, or once if it works on all at once; its report is the payload."""
    workspace.require_effects()
    span = intervals(workspace) if work.keyed else [workspace.span.last]

    def run(key: str) -> dict[str, Any]:
        workspace.fetch_reads(work, key)
        return dict(command.run([*work.argv(key), *arguments], reports=True).payload)

    return _each(span, run)


def help_with(workspace: Workspace, work: Work) -> Result:
    """Do this pod's part of what several train together; rank 0 has the result and records it, there is none here."""
    try:
        with workspace.stage(work) as stage:
            stage.fetch()
            command.run(stage.argv())
    except Ended as ended:
        return ended.result
    return Result()


def intervals(workspace: Workspace) -> list[str]:
    """The intervals of the run's span, in order."""
    cadence = settings_files.calendar_of(workspace.root, workspace.span.model).cadence
    return cadence.span(workspace.span.first, workspace.span.last)


def done(run: str, works: Sequence[Work], keys: Sequence[str]) -> Result:
    """What is reported of stages whose results are there."""
    items = dict.fromkeys(work.item(key) for key in keys for work in works)
    payload = {"interval": keys[-1], "run": run, "stages": list(items)}
    return Result(payload=payload, intervals={key: Interval(Status.DONE) for key in keys})


def _stage(workspace: Workspace, work: Work, key: str) -> None:
    _tune(workspace, work, key)
    with workspace.stage(work, key) as stage:
        if stage.run(command.run):
            print(f"{stage.item}: nothing changed since it was made; taken from the cache", flush=True)


def _tune(workspace: Workspace, work: Work, key: str) -> None:
    """Let the stage's settings be chosen first, where they grant a budget; the run's record keeps them.

    It is not a task of its own, which would cost each training a process - in a cluster, a pod - to find out that it is
    off; and so it runs where the training will, on its GPU and with its tries (docs/adr/0020).
    """
    if not work.tune or not any(_setting(workspace, name) for name in work.tune["when"]):
        return
    with workspace.stage(work, key) as stage:
        stage.fetch()
    command.run(str(work.tune["cmd"]).split())
    save_record(workspace.root, workspace.store, [])


def _setting(workspace: Workspace, name: str) -> Any:
    value: Any = settings_files.as_they_are(workspace.root)
    for part in name.split("."):
        value = value[part]
    return value


def _each(keys: Sequence[str], work: Callable[[str], dict[str, Any]]) -> Result:
    """Do ``work`` for each interval; the payload is that of the last one that is done."""
    ends: dict[str, Interval] = {}
    payload: dict[str, Any] = {}
    for key in keys:
        try:
            payload = work(key)
            ends[key] = Interval(Status.DONE)
        except Ended as ended:
            ends[key] = Interval(ended.result.status, ended.result.reason)
        except AirloopError as error:
            ends[key] = Interval(error.status, str(error))
            payload = payload or dict(error.payload)
        if len(keys) > 1 and ends[key].reason:
            warn(f"{key}: {ends[key].status}: {ends[key].reason}")
    return results.merge(ends, payload)
