"""A seeded matrix of faults against the run protocol, without Airflow: no row lost or doubled, whatever is killed.

FAULTS=2000 for more of them (`make soak`); each case is named by its seed, step, fault and moment.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.faults import matrix
from tests.faults.kinds import Try
from tests.faults.world import World

COUNT = int(os.environ.get("FAULTS", "100"))
SEED = int(os.environ.get("FAULTS_SEED", "20261126"))

pytestmark = [pytest.mark.slow, pytest.mark.timeout(max(3600, 40 * COUNT))]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


def test_every_fault_in_every_step_leaves_what_an_undisturbed_run_leaves(world: World, tmp_path: Path) -> None:
    seconds = [_undisturbed(world, index, tmp_path / f"undisturbed-{index}") for index in range(len(world.steps))]
    outcomes = []
    for number, case in enumerate(matrix.cases(world, COUNT, SEED), start=1):
        outcome = matrix.run(world, case, tmp_path / f"case-{number}", seconds[case.index])
        outcomes.append(outcome)
        print(
            f"{number}/{COUNT} {outcome.step}: {case.kind} at {case.moment:.2f}: {outcome.recovery:.1f} s {outcome.wrong}",
            flush=True,
        )
    print(matrix.table(outcomes))
    assert not [outcome for outcome in outcomes if outcome.wrong]
    assert sum(outcome.interrupted for outcome in outcomes) > COUNT / 2, "most faults must hit a step before its end"


def _undisturbed(world: World, index: int, folder: Path) -> float:
    place = world.before(index, folder)
    place.home.mkdir(parents=True)
    began = time.monotonic()
    running = Try(world.steps[index], place)
    assert running.wait() == 0, running.log.read_text()
    running.kill()
    return time.monotonic() - began
