"""Works through the intervals of a span: one that is refused or has to wait never fails the others.

An interval that looks back on one that was refused has to wait for it, whatever that one had landed with before: the run's dvc.lock
forgets what it did not make.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tasks.core import results
from tasks.core.errors import AirloopError, warn
from tasks.core.results import Interval, Result, Status
from tasks.running import command
from tasks.running.catalogue import Work
from tasks.running.command import Ended
from tasks.running.lease import Superseded
from tasks.running.runs import save_record
from tasks.running.stage_run import Behind
from tasks.running.windows import LOOKBACK
from tasks.running.workspace import Workspace
from tasks.settings import settings_files

DONE = Interval(Status.DONE)


@dataclass
class Ends:
    """What became of the intervals of a span so far."""

    span: Sequence[str]
    intervals: dict[str, Interval] = field(default_factory=dict)
    behind: set[str] = field(default_factory=set)
    """Those that wait for another interval of the span."""
    payload: dict[str, Any] = field(default_factory=dict)
    """Of the last interval that is done, else of the first that is not."""

    def left(self) -> list[str]:
        """Intervals that nothing has gone wrong with."""
        return [key for key in self.span if self.intervals.get(key, DONE).status is Status.DONE]

    def attempt(self, key: str, work: Callable[[str], Mapping[str, Any] | None]) -> None:
        """Do ``work`` for an interval; None is returned by work that is not at its end yet.

        Raises:
            Superseded: another try goes on with the run, so this one must touch nothing more of it.
        """
        try:
            payload = work(key)
            if payload is not None:
                self.payload = dict(payload)
                self.put(key, DONE)
        except Superseded:
            raise
        except Ended as ended:
            self.put(key, Interval(ended.result.status, ended.result.reason))
        except AirloopError as error:
            waits = isinstance(error, Behind) and len(self.span) > 1
            self.behind |= {key} if waits else set()
            self.payload = self.payload or dict(error.payload)
            self.put(key, Interval(Status.WAITING if waits else error.status, str(error)))

    def put_behind(self, key: str, missing: str) -> None:
        """Let an interval wait for one of the span that has not ended well."""
        self.behind.add(key)
        self.put(key, Interval(Status.WAITING, f"{key} follows {missing}, which has to end well first."))

    def put(self, key: str, end: Interval) -> None:
        """Note how an interval ended, and say so where something went wrong."""
        self.intervals[key] = end
        if len(self.span) > 1 and end.reason:
            warn(f"{key}: {end.status}: {end.reason}")

    def result(self) -> Result:
        """Of the span."""
        ordered = {key: self.intervals[key] for key in self.span if key in self.intervals}
        return results.merge(ordered, self.payload, self.behind)


def stages(workspace: Workspace, works: Sequence[Work]) -> Result:
    """Make the results of ``works`` in order, for each interval; stages without intervals once, at the end."""
    keyed, whole = [w for w in works if w.keyed], [w for w in works if not w.keyed]
    span = intervals(workspace)
    ends = Ends(span)
    for work in keyed:
        _for_each(workspace, work, ends)
    result = ends.result() if keyed else done(workspace.run, works, span)
    if result.status is Status.DONE and whole:
        last = Ends(span[-1:])
        for work in whole:
            if last.left():
                last.attempt(span[-1], partial(_stage, workspace, work))
        end = last.result()
        result = Result(end.status, end.reason, end.payload, {**result.intervals, **end.intervals})
    made = done(workspace.run, works, result.done() or span).payload
    return Result(result.status, result.reason, {**result.payload, **made}, result.intervals)


def begin(workspace: Workspace, work: Work, rest: Sequence[str] = ()) -> Result:
    """Prepare a stage or a job for something else to run; the result has the intervals that need not be run.

    Its payload: ``known`` is whether nothing is left to run, ``begun`` are the intervals of a stage that are, and ``argv``
    is the command for them; ``behind`` wait for another one of the span; ``workspace``, ``lease`` and ``run`` are where,
    ``last`` is the span's end.
    """
    last = workspace.span.last
    if work.stage:
        span = intervals(workspace) if work.keyed else [last]
        ends = Ends(span)
        begun = _begin(workspace, work, ends)
        _forget(workspace, work, {*ends.span} - {*ends.left()})
    else:
        workspace.require_effects()
        workspace.fetch_reads(work, last)
        ends, begun = Ends([last]), [last]
    argv = [*(work.argv(*begun) if begun else []), *rest]
    payload = {"known": not begun, "begun": begun, "workspace": str(workspace.root), "argv": argv, "last": last}
    payload |= {"behind": sorted(ends.behind), "lease": str(workspace.lease), "run": workspace.run}
    result = ends.result() if not begun else Result(intervals=ends.intervals)
    return Result(result.status, result.reason, payload, result.intervals)


def complete(workspace: Workspace, work: Work, made: Mapping[str, Interval]) -> Result:
    """Record what something else made of the intervals that were begun, unless their inputs changed meanwhile.

    Args:
        workspace: the run's.
        work: the stage.
        made: what became of each interval; those whose results were known are done.
    """
    ends = Ends(sorted(made))
    _complete(workspace, work, made, ends)
    _forget(workspace, work, {*ends.span} - {*ends.left()})
    result = ends.result()
    payload = done(workspace.run, [work], result.done() or ends.span).payload
    return Result(result.status, result.reason, payload, result.intervals)


def restore(workspace: Workspace, work: Work) -> Result:
    """Record a stage for all intervals of the span without running it, where that is known; `known` says whether it was."""
    keys = intervals(workspace) if work.keyed else [workspace.span.last]
    known = all(_restored(workspace, work, key) for key in keys)
    payload = {"known": known, "stage": work.item(keys[-1]), "run": workspace.run}
    return Result(payload=payload, intervals=dict.fromkeys(keys, DONE) if known else {})


def _restored(workspace: Workspace, work: Work, key: str) -> bool:
    with workspace.stage(work, key) as stage:
        try:
            return stage.restore_remotely()
        except Behind:
            return False  # who runs the stage says so


def ends_of(script: Result, begun: Sequence[str]) -> dict[str, Interval]:
    """What became of each interval by the document of a script that worked on several."""
    other = Interval(script.status, script.reason)
    return {key: script.intervals.get(key, other) for key in begun}


def job(workspace: Workspace, work: Work, arguments: Sequence[str]) -> Result:
    """Run a job for each interval of the span, or once if it works on all at once; its report is the payload.

    Where intervals look back, none is done after one that has failed: what lands has no gap.
    """
    workspace.require_effects()
    ends = Ends(intervals(workspace) if work.keyed else [workspace.span.last])

    def run(key: str) -> Mapping[str, Any]:
        workspace.fetch_reads(work, key)
        return command.run([*work.argv(key), *arguments], reports=True).payload

    missing = ""
    for key in ends.span:
        if missing and work.window == LOOKBACK:
            ends.put_behind(key, missing)
            continue
        ends.attempt(key, run)
        if ends.intervals[key].status not in (Status.DONE, Status.SKIPPED):
            missing = missing or key
    return ends.result()


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


def _for_each(workspace: Workspace, work: Work, ends: Ends) -> None:
    """Make the results of a stage for each interval that is left."""
    left = ends.left()
    if work.span and len(left) > 1:
        _together(workspace, work, ends)
        _forget(workspace, work, {*left} - {*ends.left()})
        return
    for key in left:
        ends.attempt(key, partial(_stage, workspace, work))
        _forget(workspace, work, {key} - {*ends.left()})  # at once: the next interval may read what this one makes


def _forget(workspace: Workspace, work: Work, failed: Collection[str]) -> None:
    """Take out of the run what was not made, with all that follows from it: older results may be in its dvc.lock."""
    if failed:
        workspace.forget(work, failed)


def _together(workspace: Workspace, work: Work, ends: Ends) -> None:
    """Make the results of a stage for all intervals that are left, by one command."""
    begun = _begin(workspace, work, ends)
    if not begun:
        return
    try:
        script = command.run(work.argv(*begun))
    except Ended as ended:
        script = ended.result
    _complete(workspace, work, ends_of(script, begun), ends)


def _begin(workspace: Workspace, work: Work, ends: Ends) -> list[str]:
    """Begin a stage for the intervals that are left; returns those whose results are not known."""

    def one(key: str) -> dict[str, Any] | None:
        with workspace.stage(work, key) as stage:
            if not stage.begin():
                return None
            _say_known(stage.item)
            return {}

    left = ends.left()
    before = {key: ends.intervals.pop(key, None) for key in left}
    for key in left:
        ends.attempt(key, one)
    return [key for key in before if key not in ends.intervals]


def _complete(workspace: Workspace, work: Work, made: Mapping[str, Interval], ends: Ends) -> None:
    """Record the results of a stage for those intervals of which they were made."""

    def one(key: str) -> dict[str, Any]:
        with workspace.stage(work, key) as stage:
            if stage.begun or len(made) == 1:
                stage.complete()
        return {}

    for key, end in made.items():
        if end.status is Status.DONE:
            ends.attempt(key, one)
        else:
            ends.put(key, end)


def _stage(workspace: Workspace, work: Work, key: str) -> dict[str, Any]:
    _tune(workspace, work, key)
    with workspace.stage(work, key) as stage:
        if stage.run(command.run):
            _say_known(stage.item)
    return {}


def _say_known(item: str) -> None:
    print(f"{item}: nothing changed since it was made; taken from the cache", flush=True)


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
