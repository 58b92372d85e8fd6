"""What holds for every combination of phase, container state, reasons, condition and deletion that a pod's status can show."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from types import SimpleNamespace as Bag
from typing import Any

from airloop.pod_end import End, Patience, Termination, end_of

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
PATIENCE = Patience()
PHASES = (None, "Pending", "Running", "Succeeded", "Failed", "Unknown")
PASSING_WAITS = (
    "ContainerCreating", "PodInitializing", "ErrImagePull", "ImagePullBackOff", "ImageInspectError", "ErrImageNeverPull",
    "RegistryUnavailable", "SignatureValidationFailed", "CreateContainerConfigError", "CreateContainerError", "PreCreateHookError",
    "PreStartHookError", "PostStartHookError", "RunContainerError", "CrashLoopBackOff", "AReasonOfTheNextVersion",
)  # fmt: skip
MESSAGES = (
    None,
    "failed to sync secret cache: timed out waiting for the condition",
    "context deadline exceeded",
    'failed to create containerd task: task 8f3a not found: not found',
    'object "airloop"/"airloop-store" not registered',
    'secret "airloop-store" not found',
)  # fmt: skip
CODES = (0, 1, 65, 99, 128, 137, 143, 255)
CONTAINER_REASONS = (
    "Completed",
    "Error",
    "OOMKilled",
    "Unknown",
    "ContainerStatusUnknown",
    "StartError",
    "ContainerCannotRun",
)
POD_REASONS = (
    None,
    "DeadlineExceeded",
    "Evicted",
    "NodeLost",
    "Terminated",
    "OutOfnvidia.com/gpu",
    "AReasonOfTheNextVersion",
)
DISRUPTIONS = (None, "TerminationByKubelet", "DeletionByTaintManager")
DELETED = (None, 10, 500)
"""Seconds since it was deleted."""
ENDED = (5, 700)
"""Seconds since its container ended: after or before the deletion."""


@dataclass(frozen=True)
class Case:
    phase: str | None
    state: tuple[Any, ...]
    pod_reason: str | None
    disruption: str | None
    deleted: float | None
    age: float = 60

    @property
    def kind(self) -> str:
        return str(self.state[0])

    def pod(self) -> Any:
        """The attributes of a V1Pod that are read; the client's own models take a millisecond each."""
        state = _state(self.state)
        conditions = [Bag(type="DisruptionTarget", status="True", reason=self.disruption, message=None)]
        began = NOW - timedelta(seconds=self.age)
        return Bag(
            metadata=Bag(
                creation_timestamp=began,
                deletion_timestamp=None if self.deleted is None else NOW - timedelta(seconds=self.deleted),
                deletion_grace_period_seconds=None,
            ),
            spec=Bag(active_deadline_seconds=300),
            status=Bag(
                phase=self.phase,
                reason=self.pod_reason,
                message=None,
                start_time=began,
                container_statuses=None if state is None else [Bag(name="base", state=state)],
                conditions=conditions if self.disruption else [],
            ),
        )


def _state(state: tuple[Any, ...]) -> Bag | None:
    waiting = running = terminated = None
    match state:
        case ("none",):
            return None
        case ("waiting", reason, message):
            waiting = Bag(reason=reason, message=message)
        case ("running",):
            running = Bag()
        case ("terminated", code, reason, ago):
            finished = NOW - timedelta(seconds=ago)
            terminated = Bag(exit_code=code, reason=reason, message=None, finished_at=finished)
    return Bag(waiting=waiting, running=running, terminated=terminated)


def _states() -> Iterator[tuple[Any, ...]]:
    yield ("none",)
    yield ("running",)
    yield from (("waiting", reason, message) for reason in (*PASSING_WAITS, "InvalidImageName") for message in MESSAGES)
    yield from (("terminated", *end) for end in itertools.product(CODES, CONTAINER_REASONS, ENDED))


@cache
def grid() -> list[tuple[Case, End | None]]:
    """Each case with how it is read when a watcher sees it for the first time."""
    cases = [Case(*values) for values in itertools.product(PHASES, list(_states()), POD_REASONS, DISRUPTIONS, DELETED)]
    return [(case, end_of(case.pod(), "base", PATIENCE, NOW, troubled=NOW)) for case in cases]


def test_the_grid_has_each_kind_of_end() -> None:
    assert len(grid()) > 50_000
    assert {end.kind if end else None for _, end in grid()} == {*Termination, None}


def test_no_passing_state_is_final_at_first_sight() -> None:
    wrong = [
        (case, end)
        for case, end in grid()
        if case.phase in {None, "Pending"} and case.kind == "waiting" and case.deleted is None
        and case.state[1] in PASSING_WAITS and end is not None
    ]  # fmt: skip
    assert wrong == []


def test_a_disruption_is_never_an_error_of_the_code() -> None:
    traces = [
        (case, end)
        for case, end in grid()
        if end is not None and (case.disruption or case.pod_reason not in {None, "DeadlineExceeded"})
    ]
    ended = [(case, end) for case, end in traces if case.kind == "terminated"]
    assert {end.kind for case, end in ended if case.state[1] == 0} == {Termination.COMPLETED}
    assert {end.kind for case, end in ended if case.state[1] != 0} == {Termination.DISRUPTED}


def test_an_error_of_the_code_has_no_trace_of_anything_else() -> None:
    errors = [case for case, end in grid() if end and end.kind is Termination.COMPLETED and end.code]
    assert errors
    for case in errors:
        code, reason, ago = case.state[1:]
        deleted_first = case.deleted is not None and (ago <= case.deleted or code in {137, 143})
        assert (case.pod_reason, case.disruption, deleted_first) == (None, None, False), case
        assert reason not in {"Unknown", "ContainerStatusUnknown", "StartError", "ContainerCannotRun"}, case


def test_only_what_would_end_the_same_way_again_is_not_retried() -> None:
    final = [case for case, end in grid() if end and end.kind is Termination.NON_RETRYABLE]
    assert final
    for case in final:
        out_of_memory = case.kind == "terminated" and case.state[1:3] == (137, "OOMKilled")
        wrong_image = case.kind == "waiting" and case.state[1] == "InvalidImageName"
        assert case.pod_reason == "DeadlineExceeded" or out_of_memory or wrong_image, case


def test_an_exit_code_of_zero_is_the_end_of_the_code_whatever_else_is_said() -> None:
    done = [(case, end) for case, end in grid() if case.kind == "terminated" and case.state[1] == 0]
    assert {(end.kind, end.code) for _, end in done if end} == {(Termination.COMPLETED, 0)}
    assert all(end for _, end in done)


def test_what_runs_goes_on() -> None:
    running = [
        end for case, end in grid() if case.kind == "running" and case.phase == "Running" and case.deleted is None
    ]
    assert running and set(running) == {None}


def test_no_pod_is_waited_for_without_end() -> None:
    late = PATIENCE.schedule + 1
    every = [
        Case(*values, age=late)
        for values in itertools.product((None, "Pending"), _states(), POD_REASONS, DISRUPTIONS, (None, 500))
    ]
    assert [case for case in every if end_of(case.pod(), "base", PATIENCE, NOW, troubled=NOW) is None] == []


def test_trouble_counts_from_when_it_was_seen_and_not_from_the_pod_s_beginning() -> None:
    """A large image takes ten minutes, then the secret's cache is slow for a moment."""
    case = Case("Pending", ("waiting", "CreateContainerConfigError", MESSAGES[1]), None, None, None, age=600)
    assert end_of(case.pod(), "base", PATIENCE, NOW, troubled=NOW - timedelta(seconds=3)) is None
    end = end_of(case.pod(), "base", PATIENCE, NOW, troubled=NOW - timedelta(seconds=PATIENCE.pull + 1))
    assert end is not None and end.kind is Termination.DISRUPTED
