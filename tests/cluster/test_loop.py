"""The whole loop with every stage in a pod. The tests beside this one go on where it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tasks.common import pod_record
from tests.e2e.loop import Loop

from . import table
from .kube import Cluster
from .story import INGEST, MARKS, MONTH, ONE_MONTH, TRAIN, nothing_left, runs

pytestmark = MARKS


def test_a_month_goes_through_the_whole_loop_in_pods(loop: Loop, cluster: Cluster) -> None:
    with table.fault("none: ingest, score, monitor, train", "every stage in a pod, and none left behind") as row:
        loop.land(MONTH)
        loop.run("ingest", {"month": MONTH})
        loop.follow("score", loop.started("score", MONTH))
        loop.follow("monitor", loop.started("monitor", MONTH))
        tasks = loop.run("train", {"month": MONTH, "overrides": ONE_MONTH})
        assert tasks["register"]["state"] == "success"

        used = [use for key in runs(loop) for use in pod_record.usage(key, loop.store)]
        expected, ran = {*INGEST[1:], "score", "monitor", *TRAIN}, {use["stage"] for use in used}
        assert expected <= ran, f"no pod was seen of {', '.join(sorted(expected - ran))}"
        assert {use["outcome"] for use in used} == {"ended"}, used
        row.saw(f"{len(used)} pods: {', '.join(sorted(ran))}")
        nothing_left(cluster)


def test_the_month_has_the_digests_that_this_machine_gives_it(loop: Loop, tmp_path: Path) -> None:
    with table.fault("none: the same month in processes here", "the same digests") as row:
        here = in_processes(MONTH, tmp_path)
        there = loop.landed(MONTH).lock
        differing = [name for name in there if outs(there[name]) != outs(here[name])]
        assert not differing, f"other digests: {', '.join(differing)}"
        row.saw(f"{len(there)} stages agree")


def in_processes(month: str, home: Path) -> dict[str, Any]:
    """dvc.lock of the month's stages, run by processes of this machine in a home and a store of their own."""
    variables = {
        "AIRLOOP_HOME": str(home),
        "AIRLOOP_STORE": (home / "store").as_uri(),
        "AIRLOOP_DVC_REMOTE": str(home / "remote"),
        "AIRLOOP_DVC_CACHE": str(home / "cache"),
    }
    argv = [sys.executable, "-m", "tasks.common.workspace", "stage", *INGEST]
    done = subprocess.run(
        [*argv, "--dag", "ingest", "--run", "here", "--month", month, "--begins"],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(yaml.safe_load((home / "runs/here/dvc.lock").read_text())["stages"])


def outs(entry: dict[str, Any]) -> dict[str, str]:
    return {out["path"]: out["md5"] for out in entry["outs"]}
