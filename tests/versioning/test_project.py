"""The one folder that uses DVC's Python API, on a real project: if a new DVC changes the API, this fails first."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
from pathlib import Path

import pytest

from tasks.versioning.failures import StageError
from tasks.versioning.lock_file import read_lock, write_lock
from tasks.versioning.new_project import initialise
from tasks.versioning.project import Project
from tests.versioning.conftest import WHOLE, lay


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
    assert not project.restore("part@a")
    project.reproduce(["part@a"])
    (root / "dvc.lock").unlink()
    (root / "parts/a").unlink()
    project.close()
    project = Project(root)
    assert project.restore("part@a")
    project.close()
    assert (root / "ran").read_text() == "a" and (root / "parts/a").read_text() == "aa"
    assert "part@a" in read_lock(root)


@pytest.mark.parametrize("change", ["in/a", "make.py"])
def test_a_result_of_other_inputs_is_not_taken_from_the_lock(root: Path, change: str) -> None:
    """A run's dvc.lock has the entries of what landed before, which may be of other data, code or settings."""
    project = Project(root)
    project.reproduce(["part@a"])
    project.close()
    (root / change).write_text((root / change).read_text() + "\n")
    project = Project(root)
    assert not project.restore("part@a")
    project.close()


def test_what_python_compiles_is_no_part_of_a_folder_that_a_stage_reads(root: Path) -> None:
    """A stage that reads a folder of code would find it changed when it has imported it."""
    project = Project(root)
    project.reproduce(["part@a", "part@b"])
    project.close()
    before = Project(root).inputs("whole")
    (root / "parts/__pycache__").mkdir()
    (root / "parts/__pycache__/a.pyc").write_bytes(b"compiled")
    assert Project(root).inputs("whole") == before


def test_commit_records_what_somebody_else_made(root: Path) -> None:
    project = Project(root)
    before = project.inputs("part@a")
    assert set(before) == {"make.py", "in/a"}
    (root / "parts").mkdir()
    (root / "parts/a").write_text("aa")
    project.commit("part@a")
    project.close()
    project = Project(root)
    assert project.restore("part@a") and not (root / "ran").exists()
    (root / "in/a").write_text("changed")
    assert project.inputs("part@a") != before
    project.close()


def test_what_is_pushed_is_young_though_the_remote_had_it(root: Path, tmp_path: Path) -> None:
    """A clean-up that is at work spares it, before any record names it."""
    project = Project(root)
    project.reproduce(["part@a"])
    project.push(["part@a"])
    (kept,) = [path for path in (tmp_path / "remote/files").rglob("*") if path.is_file()]
    os.utime(kept, (0, 0))
    project.push(["part@a"])
    assert kept.stat().st_mtime > 0
    project.close()


def test_a_known_result_replaces_what_a_killed_try_left(root: Path) -> None:
    with contextlib.closing(Project(root)) as project:
        project.reproduce(["part@a"])
        (root / "parts/a").unlink()
        (root / "parts/a").write_text("half of i")
        assert project.restore("part@a")
    assert ((root / "parts/a").read_text(), (root / "ran").read_text()) == ("aa", "a")


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
    assert project.record_if_known("whole")
    assert read_lock(other) == made
    assert not (other / "parts").exists() and not (other / "whole").exists()
    (other / "whole.py").write_text(WHOLE + "\n")
    assert not project.record_if_known("whole"), "another program's result is not known"
    (other / "whole.py").write_text(WHOLE)
    md5 = made["whole"]["outs"][0]["md5"]
    (tmp_path / "remote/files/md5" / md5[:2] / md5[2:]).unlink()
    assert not project.record_if_known("whole"), "a result that is nowhere is not known"
    project.close()


def _work(shared: str, number: int) -> None:
    root = Path(shared, f"run {number}")
    lay(root, Path(shared))
    os.chdir(root)
    for turn in range(3):
        (root / "in/a").write_text(f"{number} {turn}")
        project = Project(root)
        project.reproduce(["part@a", "part@b", "whole"])
        project.push(["part@a", "part@b", "whole"])
        project.close()


def test_runs_side_by_side_wait_for_what_they_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cache, remote and DVC's databases are one for all workspaces."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    context = multiprocessing.get_context("spawn")
    runs = [context.Process(target=_work, args=(str(tmp_path), number)) for number in range(3)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert [run.exitcode for run in runs] == [0, 0, 0]
    assert [(tmp_path / f"run {number}/whole").read_text() for number in range(3)] == [
        f"{n} 2{n} 2bb" for n in range(3)
    ]


def test_another_process_s_unfinished_entry_of_the_run_cache_is_neither_read_nor_deleted(
    root: Path, tmp_path: Path
) -> None:
    project = Project(root)
    project.reproduce(["part@a"])
    (entry,) = (path for path in (tmp_path / "cache/runs").rglob("*") if path.is_file())
    unfinished = entry.with_name(".abc.tmp")
    unfinished.write_text("cmd: pyt")
    (root / "dvc.lock").unlink()
    (root / "parts/a").unlink()
    assert project.restore("part@a")
    project.push(["part@a"])
    project.close()
    assert (root / "parts/a").read_text() == "aa" and unfinished.exists()
    assert not list((tmp_path / "remote").rglob("*.tmp"))
