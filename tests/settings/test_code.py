"""The code of a run comes back from the store as it was, and nothing else does."""

from __future__ import annotations

import gzip
import io
import os
import py_compile
import subprocess
import tarfile
from collections.abc import Iterator
from importlib.util import cache_from_source
from pathlib import Path

import pytest

from tasks.core.errors import DataError
from tasks.core.urls import url_of
from tasks.settings import code
from tasks.settings.environment import environment
from tasks.storage.artefacts import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(url_of(tmp_path / "store"))


def test_what_was_archived_comes_back_with_the_same_digest(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "tasks/room").mkdir(parents=True)
    (source / "dvc.yaml").write_text("stages: {}\n")
    (source / "tasks/room/x.py").write_text("x = 1\n")
    for model in ("flights", "cargo"):
        (source / "models" / model).mkdir(parents=True)
        (source / "models" / model / "model.py").write_text("y = 1\n")
    identity = code.Code(revision="", dirty=True, tree=code.tree_digest(source, "flights"))
    code.archive(source, identity, store, "flights")
    code.unpack(identity, store, tmp_path / "back")
    assert code.tree_digest(tmp_path / "back", "flights") == identity.tree
    assert (tmp_path / "back/tasks/room/x.py").read_text() == "x = 1\n"
    assert [path.name for path in (tmp_path / "back/models").iterdir()] == ["flights"], (
        "another model's code is no part of a run"
    )


@pytest.fixture
def archived(store: Store, tmp_path: Path) -> tuple[Path, code.Code]:
    """A checkout whose files are kept."""
    source = tmp_path / "source"
    (source / "tasks").mkdir(parents=True)
    for name in ("tasks/a.py", "tasks/b.py"):
        (source / name).write_text("x = 1\n")
    identity = code.Code(revision="", dirty=False, tree=code.tree_digest(source, "flights"))
    code.archive(source, identity, store, "flights")
    return source, identity


def files_of(source: Path, **changed: bytes | None) -> dict[str, bytes]:
    """What the archive of ``source`` would hold with these changes; None leaves a file out."""
    own = {path.as_posix(): (source / path).read_bytes() for path in code.files(source, "flights")}
    named = {name.replace("__", "/"): content for name, content in changed.items()}
    return {name: content for name, content in {**own, **named}.items() if content is not None}


TAMPERED = {
    "another content": {"tasks__a.py": b"steal = 1\n"},
    "a further file": {"tasks__c.py": b"steal = 1\n"},
    "a hidden file, which is no part of a tree's digest": {"tasks__.hidden.py": b"steal = 1\n"},
    "a file less": {"tasks__b.py": None},
}


@pytest.mark.parametrize("changed", TAMPERED.values(), ids=TAMPERED)
def test_an_archive_that_was_altered_is_not_unpacked_and_made_again_by_the_next_run(
    archived: tuple[Path, code.Code], changed: dict[str, bytes | None], store: Store, tmp_path: Path
) -> None:
    source, identity = archived
    put_files(store, identity.tree, files_of(source, **changed))
    with pytest.raises(DataError, match="does not hold the code with that digest: it was altered"):
        code.unpack(identity, store, tmp_path / "back")
    assert not (tmp_path / "back").exists(), "no file of it was written"
    code.archive(source, identity, store, "flights")
    code.unpack(identity, store, tmp_path / "back")
    assert code.tree_digest(tmp_path / "back", "flights") == identity.tree


@pytest.mark.parametrize("cut", [0, 1, 20])
def test_half_an_archive_is_refused_with_a_sentence(
    archived: tuple[Path, code.Code], cut: int, store: Store, tmp_path: Path
) -> None:
    name = code.archive_name(archived[1].tree)
    store.write(name, store.read(name)[:cut])
    with pytest.raises(DataError, match="is no archive of a pipeline"):
        code.unpack(archived[1], store, tmp_path / "back")


@pytest.mark.parametrize("name", ["../outside.py", "/outside.py", "tasks/../../outside.py"])
def test_an_archive_that_leaves_its_folder_is_refused(name: str, store: Store, tmp_path: Path) -> None:
    put(store, tarfile.TarInfo(name))
    with pytest.raises(DataError, match=r"outside\.py"):
        code.unpack(code.Code(revision="", dirty=False, tree="t"), store, tmp_path / "back")
    assert not (tmp_path / "outside.py").exists()


def test_a_link_in_an_archive_is_refused(store: Store, tmp_path: Path) -> None:
    link = tarfile.TarInfo("tasks/x.py")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
    put(store, link)
    with pytest.raises(DataError, match=r"tasks/x\.py"):
        code.unpack(code.Code(revision="", dirty=False, tree="t"), store, tmp_path / "back")


def put_files(store: Store, tree: str, files: dict[str, bytes]) -> None:
    """An archive under the name of ``tree``, whatever it holds."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb") as zipped, tarfile.open(fileobj=zipped, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    store.write(code.archive_name(tree), buffer.getvalue())


def put(store: Store, member: tarfile.TarInfo) -> None:
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb") as zipped, tarfile.open(fileobj=zipped, mode="w") as tar:
        tar.addfile(member, io.BytesIO(b""))
    store.write(code.archive_name("t"), buffer.getvalue())


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.delenv("AIRLOOP_CODE_REVISION", raising=False)
    environment.cache_clear()
    root = tmp_path / "checkout"
    (root / "tasks").mkdir(parents=True)
    (root / "dvc.yaml").write_text("stages: {}\n")
    (root / "tasks/x.py").write_text("x = 1\n")
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], [*who, "commit", "-q", "-m", "x"]):
        subprocess.run(["git", "-C", str(root), *words], check=True)
    yield root
    environment.cache_clear()


def test_a_clean_and_a_changed_checkout(checkout: Path) -> None:
    clean = code.identify(checkout, "flights")
    assert len(clean.revision) == 40 and not clean.dirty
    (checkout / "tasks/x.py").write_text("x = 2\n")
    assert code.identify(checkout, "flights").dirty and code.identify(checkout, "flights").revision == clean.revision


def test_settings_are_no_part_of_the_code(checkout: Path) -> None:
    """They are recorded beside it, as a run has them."""
    clean = code.identify(checkout, "flights")
    (checkout / "models/flights").mkdir(parents=True)
    (checkout / "models/flights/params.yaml").write_text("train: {}\n")
    assert code.identify(checkout, "flights") == clean
    (checkout / "models/flights/model.py").write_text("x = 1\n")
    assert code.identify(checkout, "flights").dirty


def test_git_that_distrusts_the_owner_is_named_and_nothing_counts_as_clean(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    found = code.identify(checkout, "flights")
    assert (found.revision, found.dirty) == ("unknown", True)
    said = capsys.readouterr().err
    assert "dubious ownership" in said and "safe.directory" in said and "AIRLOOP_CODE_REVISION" in said


@pytest.mark.parametrize(("told", "dirty"), [("a" * 40, False), ("a" * 40 + "-dirty", True)])
def test_without_git_the_environment_says_the_revision(
    told: str, dirty: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AIRLOOP_CODE_REVISION", told)
    monkeypatch.setenv("PATH", str(tmp_path))
    environment.cache_clear()
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    found = code.identify(tmp_path, "flights")
    assert (found.revision, found.dirty) == ("a" * 40, dirty) and not capsys.readouterr().err
    environment.cache_clear()


def _compiled(folder: Path) -> Path:
    return Path(cache_from_source(str(folder / "tasks/x.py")))


@pytest.mark.parametrize(("seconds", "copied"), [(60, True), (1, False)])
def test_what_was_compiled_comes_along_unless_its_source_may_have_changed_since(
    seconds: int, copied: bool, tmp_path: Path
) -> None:
    source, workspace = tmp_path / "source", tmp_path / "workspace"
    (source / "tasks").mkdir(parents=True)
    (source / "dvc.yaml").touch()
    (source / "tasks/x.py").write_text("x = 1\n")
    py_compile.compile(str(source / "tasks/x.py"))
    changed = (source / "tasks/x.py").stat().st_mtime
    os.utime(_compiled(source), (changed + seconds, changed + seconds))
    code.copy(source, workspace, "flights")
    assert _compiled(workspace).exists() is copied
    assert code.tree_digest(workspace, "flights") == code.tree_digest(source, "flights")
