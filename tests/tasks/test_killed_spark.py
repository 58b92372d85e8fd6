"""Features and batch scoring in Spark, killed at random moments and run again: the digests of an undisturbed run."""

from __future__ import annotations

import hashlib
import sys

import pytest

from tasks import ingest, manifest, validate
from tasks.landing import landed
from tasks.settings.environment import CODE
from tasks.storage.artefacts import Store
from tests.killing import digests, kill_at_random, run_to_end
from tests.makers import Workspace, make_champion, put_settings
from tests.tasks.conftest import INTERVAL, Place, Tables

FEATURES = [sys.executable, str(CODE / "tasks/features.py"), "--interval", INTERVAL]
BOTH = """
import runpy, sys
for stage in ("features", "score"):
    sys.argv = [f"tasks/{stage}.py", "--interval", sys.argv[-1]]
    try:
        runpy.run_module(f"tasks.{stage}", run_name="__main__")
    except SystemExit as end:
        if end.code: raise
"""
"""Both in one process, which starts one JVM: a kill can then hit each, in the time of one."""


@pytest.mark.slow
def test_spark_stages_killed_at_random_moments_and_run_again_give_the_same_digests(
    place: Place, small: Tables, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The process group is killed, JVM included; what is left over must not be found again, nor stand in the way."""
    maker = Workspace(tmp_path_factory.mktemp("model"), rows_a_day=20)
    store = Store(place.environ["AIRLOOP_STORE"]).part("flights")
    make_champion(store, maker.train(), data_through="2013-01")
    put_settings(place.workspace, [INTERVAL])  # nothing before it
    place.land(small)
    for stage in (manifest, ingest, validate):
        place.run(stage)
    env = {**place.environ, "PYTHONPATH": str(CODE)}
    run_to_end(FEATURES, place.workspace, env)
    features = (place.workspace / f"data/features/{INTERVAL}.parquet").read_bytes()
    record = {name: {} for name in ("counts", "lock", "state")} | {
        "interval": INTERVAL, "previous": INTERVAL, "run": "r", "manifest": "",
        "features": hashlib.md5(features, usedforsecurity=False).hexdigest(),
    }  # fmt: skip
    landed.write(store, landed.Landed.model_validate(record))

    argv = [sys.executable, "-c", BOTH, INTERVAL]
    seconds = run_to_end(argv, place.workspace, env)
    expected = digests(place.workspace), digests(place.store)
    assert f"predictions/{INTERVAL}/v1.parquet" in expected[1]
    assert kill_at_random(argv, place.workspace, env, times=4, within=seconds, seed=20130212)
    run_to_end(argv, place.workspace, env)
    assert (digests(place.workspace), digests(place.store)) == expected
