"""The code of a run comes back from the store as it was, and nothing else does."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from tasks.common import code
from tasks.common.artefacts import Store
from tasks.common.errors import DataError


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store((tmp_path / "store").as_uri())


def test_what_was_archived_comes_back_with_the_same_digest(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "tasks/common").mkdir(parents=True)
    (source / "dvc.yaml").write_text("stages: {}\n")
    (source / "tasks/common/x.py").write_text("x = 1\n")
    identity = code.Code(revision="", dirty=True, tree=code.tree_digest(source))
    code.archive(source, identity, store)
    code.unpack(identity, store, tmp_path / "back")
    assert code.tree_digest(tmp_path / "back") == identity.tree
    assert (tmp_path / "back/tasks/common/x.py").read_text() == "x = 1\n"


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


def put(store: Store, member: tarfile.TarInfo) -> None:
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb") as zipped, tarfile.open(fileobj=zipped, mode="w") as tar:
        tar.addfile(member, io.BytesIO(b""))
    store.write(code.archive_name("t"), buffer.getvalue())
