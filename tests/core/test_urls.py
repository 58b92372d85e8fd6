"""One pair of functions between paths and URLs: what one writes the other reads, whatever a folder is called."""

from __future__ import annotations

import ast
import os
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest

from tasks.core.urls import path_of, url_of
from tasks.settings.environment import CODE
from tasks.storage.artefacts import Store
from tests.names import NAMES

BANNED = {"as_uri", "url2pathname", "pathname2url", "from_uri"}
WHERE = ("bench", "dags", "docker", "local", "models", "plugins", "serving", "tasks", "tests")


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_there_and_back_is_the_same_path(name: str) -> None:
    path = Path("/base", name, "store")
    assert path_of(url_of(path)) == path
    assert not set(url_of(path)) & set(' #?%"') - {"%"} and urlsplit(url_of(path)).fragment == ""


def test_a_name_that_is_no_text_survives() -> None:
    path = Path(os.fsdecode(b"/base/\xff\xfe"))
    assert os.fsencode(path_of(url_of(path)) or "") == b"/base/\xff\xfe"


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("file:///a b#1", "/a b#1"),  # as a person writes it
        ("file:///100%/x?y", "/100%/x?y"),
        ("file:/a", "/a"),
        ("file://localhost/a%20b", "/a b"),
        ("/a%20b", "/a%20b"),  # no URL, so no escapes
        ("relative", "relative"),
        ("s3://bucket/a%20b", None),
        ("memory://x", None),
    ],
)
def test_what_a_person_may_write(url: str, path: str | None) -> None:
    assert path_of(url) == (path if path is None else Path(path))


def test_a_file_of_another_machine_is_refused() -> None:
    with pytest.raises(ValueError, match="file:///"):
        path_of("file://server/share")


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_store_lies_in_the_folder_that_is_named(tmp_path: Path, name: str) -> None:
    home = tmp_path / name
    for number, url in enumerate([url_of(home / "store"), str(home / "store")]):
        store = Store(url)
        store.write(f"a/{number}.txt", b"1")
        assert store.create(f"b/{number}.txt", b"2") and not store.create(f"b/{number}.txt", b"3")
        assert (home / f"store/a/{number}.txt").read_bytes() == b"1"
        assert store.names("a")[number] == f"a/{number}.txt" and store.read(f"b/{number}.txt") == b"2"
        with urlopen(store.uri(f"a/{number}.txt")) as opened:  # as a browser does
            assert opened.read() == b"1"
    assert [path.name for path in tmp_path.iterdir()] == [name]
    store.delete_all("a")
    assert sorted(path.name for path in (home / "store").iterdir()) == ["b"]


def test_the_url_of_a_bucket_stays_as_it_is() -> None:
    assert Store("memory://a%20b/").uri("x y") == "memory://a%20b/x y"


def test_nothing_else_goes_between_paths_and_urls() -> None:
    found = []
    for file in sorted(file for folder in WHERE for file in (CODE / folder).rglob("*.py")):
        if file.relative_to(CODE).as_posix() in ("tasks/core/urls.py", "tests/core/test_urls.py"):
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            name = getattr(node, "attr", "") or getattr(node, "id", "") or getattr(node, "name", "")
            text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
            if name in BANNED or text == "file://":
                found.append(f"{file.relative_to(CODE)}:{getattr(node, 'lineno', 0)}")
    assert found == [], "use url_of and path_of of tasks/core/urls.py"
