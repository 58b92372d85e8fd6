"""What is brought has the digest that is recorded, wherever it comes from."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from tasks.core.errors import DataError, Unavailable
from tasks.versioning.lock_file import read_lock
from tasks.versioning.project import Project
from tests.versioning.conftest import listed


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
