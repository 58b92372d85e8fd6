"""Each stage on a disk that takes no more: one sentence, nothing half-written visible, and it goes on once there is space."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tasks.core.errors import Unavailable
from tasks.core.full_disk import no_space
from tasks.core.urls import url_of
from tasks.running.runs import Request, Span, open_run
from tasks.settings.environment import CODE, environment
from tasks.storage.artefacts import Store
from tasks.versioning.new_project import initialise
from tasks.versioning.project import Project
from tests.killing import digests
from tests.makers import Workspace, put_settings
from tests.tasks.conftest import INTERVAL, Place, Tables

pytestmark = pytest.mark.slow
AS_ROOT = [] if os.geteuid() == 0 else ["sudo", "-n"]


def _may_mount() -> bool:
    try:
        return subprocess.run([*AS_ROOT, "mount", "--version"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


MAY_MOUNT = _may_mount()
"""A real full disk is a small tmpfs, which root can mount; a limit on the size of files is much the same to a program."""

BEGINNING = Request("one", Span("flights", "2013-01", "2013-01"), "lookback")


@contextmanager
def full(folder: Path) -> Iterator[None]:
    """Make ``folder``, which is a file system of its own where that can be, one without a free byte."""
    if not folder.is_mount():
        yield
        return
    filler = folder / ".filler"
    with filler.open("wb", buffering=0) as file:
        for size in (2**20, 4096, 1):
            with suppress(OSError):
                while True:
                    file.write(b"\0" * size)
    yield
    filler.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    options = f"size=96m,uid={os.geteuid()},gid={os.getegid()}"
    command = [*AS_ROOT, "mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    mounted = MAY_MOUNT and subprocess.run(command, capture_output=True, check=False).returncode == 0
    yield folder
    if mounted:
        subprocess.run([*AS_ROOT, "umount", "-l", str(folder)], check=True)


def run(argv: list[str], root: Path, *, limited: bool) -> subprocess.CompletedProcess[str]:
    def limit() -> None:
        # Python tries a folder for temporary files with four bytes.
        resource.setrlimit(resource.RLIMIT_FSIZE, (16, 16))

    (root.parent / "tmp").mkdir(exist_ok=True)
    env = {**os.environ, "PYTHONPATH": str(CODE), "TMPDIR": str(root.parent / "tmp"), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, *argv],
        cwd=root,
        env={**env, "AIRLOOP_HOME": str(root.parent / "home")},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limit if limited and not root.parent.is_mount() else None,
    )


def fails_and_goes_on(stage: str, arguments: list[str], root: Path, outs: list[str]) -> None:
    argv = [str(CODE / f"tasks/{stage}.py"), *arguments]
    before = digests(root)
    with full(root.parent):
        done = run(argv, root, limited=True)
        assert done.returncode == 75, (stage, done.stdout, done.stderr[-3000:])
        sentence = [line for line in done.stderr.splitlines() if line.startswith("waiting: ")]
        assert len(sentence) == 1 and "MiB free" in sentence[0] and "Make space" in sentence[0], done.stderr[-3000:]
        assert str(root.parent) in sentence[0] or not root.parent.is_mount(), sentence
        assert "Traceback" not in done.stderr
        assert {name: digest for name, digest in digests(root).items() if name in before} == before
        assert not [out for out in outs if (root / out).exists()], f"{stage}: something half-written is visible"
    done = run(argv, root, limited=False)
    assert done.returncode == 0, (stage, done.stderr[-3000:])
    assert all((root / out).exists() for out in outs)
    assert not list(root.rglob("*.partial"))


def test_the_stages_of_an_interval(disk: Path, place: Place, small: Tables) -> None:
    place.land(small)
    root = disk / "run"
    shutil.copytree(place.workspace, root)
    interval = ["--interval", INTERVAL]
    put_settings(root, [INTERVAL])
    fails_and_goes_on("manifest", interval, root, [f"data/manifests/{INTERVAL}.json"])
    fails_and_goes_on("ingest", interval, root, [f"data/raw/{INTERVAL}"])
    fails_and_goes_on("validate", interval, root, [f"data/kept/{INTERVAL}", f"data/counts/{INTERVAL}.json"])
    if disk.is_mount():  # a JVM that may write no file at all waits for ever
        fails_and_goes_on("features", interval, root, [f"data/features/{INTERVAL}.parquet"])


def test_the_stages_of_a_model(disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRLOOP_STORE", url_of(tmp_path / "store"))
    root = Workspace(disk / "run").root
    for stage, out in (
        ("golden", "golden/golden.parquet"),
        ("train", "model/model.onnx"),
        ("resolve", "champion/champion.json"),
        ("evaluate", "evaluation/evaluation.json"),
        ("gate", "gate/gate.json"),
    ):
        fails_and_goes_on(stage, [], root, [out])


def refuse(disk: Path, work: Callable[[], object]) -> str:
    """What is said of ``work`` on the full disk."""
    with full(disk), pytest.raises((OSError, Unavailable)) as caught:
        work()
    return str(caught.value) if isinstance(caught.value, Unavailable) else no_space(caught.value) or ""


mounts = pytest.mark.skipif(
    not MAY_MOUNT, reason="only root may mount a small disk, and this user is not and has no sudo"
)


@mounts
def test_the_store(disk: Path) -> None:
    store = Store(url_of(disk / "store"))
    store.write("a/old", b"old")
    assert str(disk) in refuse(disk, lambda: store.write("a/new", b"x" * 2**20))
    assert str(disk) in refuse(disk, lambda: store.create("a/new", b"x" * 2**20))
    assert str(disk) in refuse(disk, lambda: store.write("a/old", b"x" * 2**20))
    assert store.names("a") == ["a/old"] and store.read("a/old") == b"old"
    assert [path.name for path in (disk / "store/a").iterdir()] == ["old"]
    assert store.create("a/new", b"1")


@mounts
def test_a_run_that_begins(disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRLOOP_HOME", str(disk / "home"))
    environment.cache_clear()
    store = Store(url_of(tmp_path / "store")).part("flights")
    assert str(disk) in refuse(disk, lambda: open_run(BEGINNING, store, begins=True))
    assert not store.names("runs"), "a run that has no workspace has no record"
    assert (open_run(BEGINNING, store, begins=True) / "params.yaml").exists()
    environment.cache_clear()


@mounts
@pytest.mark.parametrize("what", ["cache", "remote"])
def test_what_a_stage_made_is_kept_once_there_is_space(
    disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    root = tmp_path / "run"
    root.mkdir()
    monkeypatch.chdir(root)
    places = {"cache": tmp_path / "cache", "remote": tmp_path / "remote", what: disk / what}
    (root / "dvc.yaml").write_text("stages: {a: {cmd: make, outs: [a]}}")
    (root / "a").write_bytes(os.urandom(2**20))
    initialise(root, cache=places["cache"], remote=str(places["remote"]), site_cache=tmp_path / "site")
    project = Project(root)

    def keep() -> None:
        project.commit("a")
        project.push(["a"])

    assert str(disk) in refuse(disk, keep)
    keep()
    project.close()
    assert [path for path in places["remote"].rglob("*") if path.is_file() and path.stat().st_size == 2**20]
