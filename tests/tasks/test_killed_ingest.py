"""Landing to validated interval, killed at random moments and run again: the digests of an undisturbed run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tasks.settings.environment import CODE
from tests.killing import digests, kill_at_random, run_to_end
from tests.tasks.conftest import INTERVAL, Place, Tables

STAGES = """
import runpy, sys
for stage in ("manifest", "ingest", "validate"):
    sys.argv = [f"tasks/{stage}.py", "--interval", sys.argv[-1]]
    try:
        runpy.run_module(f"tasks.{stage}", run_name="__main__")
    except SystemExit as end:
        if end.code: raise
"""
"""The three stages in one process, which imports only once: a kill can then hit each, in the time of one."""

DIE_AT = """
import os, signal, sys
from pathlib import Path
from tasks.storage.files import write_file, write_folder
steps = iter(range(int(sys.argv[1])))
def dying(call):
    def step(*arguments, **names):
        if next(steps, None) is None: os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **names)
    return step
for module, name in ((os, "fsync"), (os, "rename"), (os, "replace"), (os, "unlink"), (os, "rmdir"), (os, "mkdir")):
    setattr(module, name, dying(getattr(module, name)))
write_folder(Path("folder"), {"a": b"new a", "b": b"new b"})
write_file(Path("file"), b"new")
"""


def test_stages_killed_at_random_moments_and_run_again_give_the_same_digests(place: Place, small: Tables) -> None:
    place.land(small)
    argv = [sys.executable, "-c", STAGES, INTERVAL]
    env = {**place.environ, "PYTHONPATH": str(CODE)}
    seconds = run_to_end(argv, place.workspace, env)
    expected = digests(place.workspace / "data")
    assert len(expected) == 10
    assert kill_at_random(argv, place.workspace, env, times=5, within=seconds, seed=20130212)
    run_to_end(argv, place.workspace, env)
    assert digests(place.workspace / "data") == expected


@pytest.mark.parametrize("step", range(1, 15, 2))
def test_a_kill_at_any_step_of_writing_shows_nothing_half_written_and_heals(tmp_path: Path, step: int) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/a").write_bytes(b"old a")
    (tmp_path / "file").write_bytes(b"old")
    argv = [sys.executable, "-c", DIE_AT]
    env = {"PYTHONPATH": str(CODE)}
    killed = subprocess.run([*argv, str(step)], cwd=tmp_path, env=env, check=False).returncode
    assert killed == -9
    seen = {name: (tmp_path / name).read_bytes() for name in ("folder/a", "folder/b") if (tmp_path / name).exists()}
    assert all(content.startswith((b"old ", b"new ")) for content in seen.values())
    assert ("folder/b" in seen) <= (seen.get("folder/a") == b"new a")
    assert (tmp_path / "file").read_bytes() in (b"old", b"new")
    run_to_end([*argv, "1000"], tmp_path, env)
    assert {name: (tmp_path / name).read_bytes() for name in digests(tmp_path)} == {
        "file": b"new", "folder/a": b"new a", "folder/b": b"new b",
    }  # fmt: skip
