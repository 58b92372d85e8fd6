"""Golden set to verdict, killed at random moments and run again: the digests of an undisturbed run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tasks.core.urls import url_of
from tasks.settings.environment import CODE
from tests.killing import digests, kill_at_random, run_to_end
from tests.makers import Workspace

STAGES = """
import runpy, sys
for stage in ("golden", "train", "resolve", "evaluate", "gate"):
    sys.argv = [f"tasks/{stage}.py"]
    try:
        runpy.run_module(f"tasks.{stage}", run_name="__main__")
    except SystemExit as end:
        if end.code: raise
"""
"""All in one process, which imports only once: a kill can then hit each, in the time of one."""

OUTS = ("golden", "model", "champion", "evaluation", "gate")


@pytest.mark.slow
def test_stages_killed_at_random_moments_and_run_again_give_the_same_digests(tmp_path: Path) -> None:
    root = Workspace(tmp_path / "run").root
    argv = [sys.executable, "-c", STAGES]
    env = {"PYTHONPATH": str(CODE), "AIRLOOP_STORE": url_of(tmp_path / "store")}
    seconds = run_to_end(argv, root, env)
    expected = {out: digests(root / out) for out in OUTS}
    assert all(expected.values())
    assert kill_at_random(argv, root, env, times=4, within=seconds, seed=20130212)
    run_to_end(argv, root, env)
    assert {out: digests(root / out) for out in OUTS} == expected
