"""The one module that uses DVC's Python API, on a real project: if a new DVC changes the API, this fails first."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tasks.common.dvc_repo import Project, StageError, initialise, read_lock, write_lock
from tasks.common.errors import DataError

PIPELINE = """
stages:
  part:
    foreach: [a, b]
    do:
      cmd: python make.py ${item}
      deps: [make.py, "in/${item}"]
      outs: ["parts/${item}"]
  whole:
    cmd: python whole.py
    deps: [parts, whole.py]
    outs: [whole]
"""
MAKE = """
import pathlib, sys
with open('ran', 'a') as log: log.write(sys.argv[1])
pathlib.Path('parts').mkdir(exist_ok=True)
pathlib.Path('parts', sys.argv[1]).write_text(pathlib.Path('in', sys.argv[1]).read_text() * 2)
"""
WHOLE = "import pathlib; pathlib.Path('whole').write_text(''.join(p.read_text() for p in sorted(pathlib.Path('parts').iterdir())))"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "one"
    lay(root, tmp_path)
    monkeypatch.chdir(root)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return root


def lay(root: Path, shared: Path) -> None:
    (root / "in").mkdir(parents=True)
    (root / "dvc.yaml").write_text(PIPELINE)
    (root / "make.py").write_text(MAKE)
    (root / "whole.py").write_text(WHOLE)
    for name in "ab":
        (root / "in" / name).write_text(name)
    initialise(root, cache=shared / "cache", remote=str(shared / "remote"), site_cache=shared / "site")


def test_reproduce_push_and_bring_back_elsewhere(root: Path, tmp_path: Path) -> None:
    project = Project(root)
    project.reproduce(["part@a", "part@b", "whole"])
    project.push(["part@a", "part@b", "whole"])
    project.close()
    assert (root / "whole").read_text() == "aabb"

    other = tmp_path / "two"
    lay(other, tmp_path / "elsewhere")
    initialise(
        other, cache=tmp_path / "elsewhere/cache", remote=str(tmp_path / "remote"), site_cache=tmp_path / "site2"
    )
    (other / "dvc.lock").write_bytes((root / "dvc.lock").read_bytes())
    os.chdir(other)
    project = Project(other)
    assert project.producers("whole") == ["part@a", "part@b"]
    project.materialise(["part@a", "part@b"])
    project.reproduce(["whole"], again=True)
    project.close()
    assert (other / "whole").read_text() == "aabb" and not (other / "ran").exists()
    assert read_lock(other)["whole"] == read_lock(root)["whole"]


def test_an_identical_stage_is_free(root: Path) -> None:
    project = Project(root)
    assert not project.probe("part@a")
    project.reproduce(["part@a"])
    (root / "dvc.lock").unlink()
    project.close()
    project = Project(root)
    assert project.probe("part@a")
    project.reproduce(["part@a"])
    project.close()
    assert (root / "ran").read_text() == "a"


def test_commit_records_what_somebody_else_made(root: Path) -> None:
    project = Project(root)
    before = project.inputs("part@a")
    assert set(before) == {"make.py", "in/a"}
    (root / "parts").mkdir()
    (root / "parts/a").write_text("aa")
    project.commit("part@a")
    project.close()
    project = Project(root)
    assert project.probe("part@a") and not (root / "ran").exists()
    (root / "in/a").write_text("changed")
    assert project.inputs("part@a") != before
    project.close()


@pytest.mark.parametrize("remote_survives", [True, False])
def test_a_damaged_cache_is_noticed(root: Path, tmp_path: Path, remote_survives: bool) -> None:
    project = Project(root)
    project.reproduce(["part@a"])
    if remote_survives:
        project.push(["part@a"])
    project.close()
    md5 = read_lock(root)["part@a"]["outs"][0]["md5"]
    cached = tmp_path / "cache/files/md5" / md5[:2] / md5[2:]
    (root / "parts/a").unlink()
    stat = cached.stat()
    cached.chmod(0o644)
    cached.write_text("xx")  # same size and, below, the same time: DVC's database sees no change
    os.utime(cached, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    project = Project(root)
    if remote_survives:
        project.materialise(["part@a"])
        assert (root / "parts/a").read_text() == "aa"
    else:
        with pytest.raises(DataError, match="ingest"):
            project.materialise(["part@a"])
    project.close()


def test_a_failing_command_is_one_sentence(root: Path) -> None:
    (root / "in/a").unlink()
    project = Project(root)
    with pytest.raises(StageError, match="in/a"):
        project.reproduce(["part@a"])
    with pytest.raises(StageError, match="no stage"):
        project.argv("nonsense")
    project.close()


def test_a_result_is_adopted_without_a_byte_of_data(root: Path, tmp_path: Path) -> None:
    """On a machine that has neither inputs, outputs nor a cache: what the remote and dvc.lock say is enough."""
    stages = ["part@a", "part@b", "whole"]
    project = Project(root)
    project.reproduce(stages)
    project.push(stages)
    project.close()
    made = read_lock(root)

    other = tmp_path / "two"
    lay(other, tmp_path / "elsewhere")
    initialise(
        other, cache=tmp_path / "elsewhere/cache", remote=str(tmp_path / "remote"), site_cache=tmp_path / "site2"
    )
    write_lock(other, {name: made[name] for name in stages[:2]})
    os.chdir(other)
    project = Project(other)
    assert project.adopt("whole")
    assert read_lock(other) == made
    assert not (other / "parts").exists() and not (other / "whole").exists()
    (other / "whole.py").write_text(WHOLE + "\n")
    assert not project.adopt("whole"), "another program's result is not known"
    (other / "whole.py").write_text(WHOLE)
    md5 = made["whole"]["outs"][0]["md5"]
    (tmp_path / "remote/files/md5" / md5[:2] / md5[2:]).unlink()
    assert not project.adopt("whole"), "a result that is nowhere is not known"
    project.close()
