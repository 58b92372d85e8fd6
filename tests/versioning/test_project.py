"""The one folder that uses DVC's Python API, on a real project: if a new DVC changes the API, this fails first."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import sqlite3
import sys
from pathlib import Path

import pytest

from tasks.core.errors import ConfigError, DataError, Unavailable
from tasks.core.urls import url_of
from tasks.storage import lists
from tasks.versioning.failures import StageError
from tasks.versioning.lock_file import read_lock, write_lock
from tasks.versioning.new_project import initialise
from tasks.versioning.project import Project
from tests.names import NAMES

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


@pytest.mark.parametrize("remote_survives", [True, False])
def test_a_damaged_cache_is_noticed(root: Path, tmp_path: Path, remote_survives: bool) -> None:
    project = Project(root)
    project.reproduce(["part@a"])
    project.push(["part@a"])
    project.close()
    md5 = read_lock(root)["part@a"]["outs"][0]["md5"]
    cached, pushed = (tmp_path / place / "files/md5" / md5[:2] / md5[2:] for place in ("cache", "remote"))
    if not remote_survives:
        pushed.unlink()
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


def test_a_half_written_index_of_a_killed_process_is_not_believed(root: Path, tmp_path: Path) -> None:
    project = Project(root)
    project.reproduce(["part@a", "part@b"])
    project.push(["part@a", "part@b"])
    project.materialise(["part@a", "part@b"])
    project.close()
    (index,) = (tmp_path / "site/repo").glob("*/index/data/db.db")
    with contextlib.closing(sqlite3.connect(index)) as database:
        lost = database.execute("UPDATE nodes SET has_value = NULL, value = NULL WHERE name = 'parts'")
        assert lost.rowcount, "DVC keeps its index elsewhere now: read fetching.py's remark on it again"
        database.commit()
    shutil.rmtree(root / "parts")
    project = Project(root)
    project.materialise(["part@a", "part@b"])
    project.close()
    assert (root / "parts/b").read_text() == "bb"


@pytest.mark.parametrize("fault", ["remote is away", "cache cannot be written"])
def test_a_fetch_that_fails_is_no_lost_file(root: Path, tmp_path: Path, fault: str) -> None:
    """The error says to try again: a sentence about lost data would end the run for good."""
    project = Project(root)
    project.reproduce(["part@a"])
    project.push(["part@a"])
    project.close()
    (root / "parts/a").unlink()
    shutil.rmtree(tmp_path / "cache/files/md5")
    if fault == "remote is away":
        (tmp_path / "remote").rename(tmp_path / "gone")
    else:
        (tmp_path / "cache/files/md5").write_text("not a folder")
    project = Project(root)
    with pytest.raises(Unavailable, match="try again"):
        project.materialise(["part@a"])
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


@pytest.mark.parametrize("name", ["all", "percent", "escape", "glob", "backslash", "nfd", "dollar"])
def test_a_project_cache_and_remote_in_folders_of_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    shared = tmp_path / NAMES[name]
    first, second = shared / "one", shared / "two"
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    lay(first, shared)
    monkeypatch.chdir(first)
    project = Project(first)
    project.reproduce(["part@a"])
    project.push(["part@a"])
    project.close()

    lay(second, shared)
    initialise(second, cache=shared / "cache2", remote=url_of(shared / "remote"), site_cache=shared / "site2")
    (second / "dvc.lock").write_bytes((first / "dvc.lock").read_bytes())
    monkeypatch.chdir(second)
    project = Project(second)
    project.materialise(["part@a"])
    project.close()
    assert (second / "parts/a").read_text() == "aa" and not (second / "ran").exists()
    assert {path.name for path in shared.iterdir()} == {"one", "two", "cache", "cache2", "remote", "site", "site2"}
    assert [path.name for path in tmp_path.iterdir()] == [shared.name]


@pytest.mark.parametrize("name", ["%(home)s", "a{b}", "a$PATH", "'''and\"\"\""])
def test_a_name_that_dvc_cannot_work_in_is_one_sentence(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="AIRLOOP_HOME"):
        lay(tmp_path / "one", tmp_path / name)


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


def listed(root: Path, *names: str) -> dict[str, str]:
    """Path to digest of files of the workspace."""
    return {name: lists.digest((root / name).read_bytes()) for name in names}


@pytest.fixture
def elsewhere(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, dict[str, str]]:
    """Another machine, which has seen nothing, and what the first one has made and pushed."""
    project = Project(root)
    project.reproduce(["part@a", "part@b"])
    project.push(["part@a", "part@b"])
    project.close()
    other = tmp_path / "two"
    lay(other, tmp_path / "elsewhere")
    initialise(
        other, cache=tmp_path / "elsewhere/cache", remote=str(tmp_path / "remote"), site_cache=tmp_path / "site2"
    )
    monkeypatch.chdir(other)
    return other, listed(root, "parts/a", "parts/b")


def test_files_are_brought_by_their_digests_alone(elsewhere: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    """Without a stage in dvc.yaml or dvc.lock that made them, from the remote and then from the cache."""
    other, files = elsewhere
    project = Project(other)
    project.bring(files)
    assert listed(other, *files) == files
    (other / "parts/a").unlink()
    (other / "parts/b").unlink()
    (other / "parts/b").write_text("of a try that was killed")
    shutil.rmtree(tmp_path / "remote")
    project.bring(files)
    project.close()
    assert listed(other, *files) == files


def test_a_damaged_file_of_the_cache_is_brought_anew(elsewhere: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    other, files = elsewhere
    project = Project(other)
    project.bring(files)
    shutil.rmtree(other / "parts")
    damaged = tmp_path / "elsewhere/cache/files/md5" / files["parts/a"][:2] / files["parts/a"][2:]
    damaged.chmod(0o644)
    damaged.write_bytes(b"damaged")
    project.bring(files)
    project.close()
    assert listed(other, *files) == files


def test_a_file_that_is_nowhere_is_named_and_a_remote_that_is_away_is_waited_for(
    elsewhere: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    other, files = elsewhere
    project = Project(other)
    with pytest.raises(DataError, match=r"parts/c: no file with the digest"):
        project.bring({"parts/c": "0" * 32})
    (tmp_path / "remote").rename(tmp_path / "away")
    with pytest.raises(Unavailable, match=r"does not answer"):
        project.bring(files)
    project.close()


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
