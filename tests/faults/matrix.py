"""Runs cases of the matrix: a step, a fault in it, tries until it is done, and what it left."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tasks.core.results import Status
from tests.faults.kinds import KINDS, Case, Try, disk
from tests.faults.world import INTERVALS, Place, World

TRIES = 4
"""As many as Airflow makes, and one more."""


@dataclass(frozen=True)
class Outcome:
    """What came of a case."""

    case: Case
    step: str
    interrupted: bool
    """Whether the fault hit the try before it was done."""
    tries: int
    """After the fault."""
    recovery: float
    """Seconds from the end of the fault to the result."""
    wrong: str = ""
    """What is not as it should be."""


def cases(world: World, count: int, seed: int) -> list[Case]:
    """``count`` cases: every kind of fault in every step first, then again; the moments are drawn from ``seed``.

    The first interval's steps are those of the second without a look-back, so they are left out.
    """
    moments = random.Random(seed)
    steps = range(len({step.title for step in world.steps if step.interval == INTERVALS[0]}), len(world.steps))
    cells = [(index, kind) for index in steps for kind in KINDS]
    moments.shuffle(cells)
    chosen = [cells[turn % len(cells)] for turn in range(count)]
    return [Case(seed + turn, index, kind, moments.uniform(0.05, 1.0)) for turn, (index, kind) in enumerate(chosen)]


def run(world: World, case: Case, folder: Path, seconds: float) -> Outcome:
    """Do one case in ``folder``, whose step takes ``seconds`` undisturbed."""
    step, place = world.steps[case.index], world.before(case.index, folder)
    with disk(place, small=case.kind == "full disk"):
        running = Try(step, place)
        done = running.wait(case.moment * seconds) is not None
        if not done:
            KINDS[case.kind](running, place, random.Random(case.seed))
        began = time.monotonic()
        tries, wrong = _recover(world, case, place, running)
        recovery = time.monotonic() - began
        wrong = wrong or _compare(world, case, place)
    shutil.rmtree(folder, ignore_errors=True)
    return Outcome(case, step.title, not done, tries, recovery, wrong)


def _recover(world: World, case: Case, place: Place, first: Try) -> tuple[int, str]:
    """Try again until the step is done, and then wake what was stopped; returns how often, and what went wrong."""
    last = first
    for number in range(1, TRIES + 1):
        last = Try(world.steps[case.index], place)
        code = last.wait()
        last.kill()
        if code == 0:
            with suppress(ProcessLookupError):
                os.killpg(first.process.pid, signal.SIGCONT)
            first.wait()
            first.kill()
            return number, ""
        result = last.result()
        if result is not None and result.status is Status.REFUSED:
            return number, f"refused: {result.reason}"
    return TRIES, f"not done after {TRIES} tries: {last.log.read_text(errors='replace')[-2000:]}"


def _compare(world: World, case: Case, place: Place) -> str:
    found, expected = place.result(world.steps[case.index]), world.expected[case.index]
    return "" if found == expected else f"left {found}, not {expected}"


def table(outcomes: Iterable[Outcome]) -> str:
    """Cases, interruptions, tries and recovery by kind of fault, as Markdown."""
    rows = [
        "| fault | cases | hit before the end | tries after it, most | recovery p50, s | p95, s | wrong |",
        "|---|---|---|---|---|---|---|",
    ]
    done = list(outcomes)
    for kind in KINDS:
        of_kind = [each for each in done if each.case.kind == kind]
        if not of_kind:
            continue
        hit = [each for each in of_kind if each.interrupted]
        times = sorted(each.recovery for each in hit) or [0.0]
        wrong = sum(bool(each.wrong) for each in of_kind)
        p50, p95 = times[len(times) // 2], times[min(len(times) - 1, int(len(times) * 0.95))]
        most = max(each.tries for each in of_kind)
        rows.append(f"| {kind} | {len(of_kind)} | {len(hit)} | {most} | {p50:.1f} | {p95:.1f} | {wrong} |")
    return "\n".join(rows)
