"""Stopping keeps everything; deleting is a verb of its own that says what goes, and asks."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from local import demo, env, keys, paths, stack
from local.errors import LocalError
from tasks.core.urls import url_of


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home that somebody works in, with nothing running."""
    monkeypatch.setenv("AIRLOOP_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("AIRLOOP_DEMO", raising=False)
    for name in [name for name in os.environ if name.startswith("AIRLOOP_") and name.endswith("_PORT")]:
        monkeypatch.delenv(name)
    (tmp_path / "home" / "store").mkdir(parents=True)
    (tmp_path / "home" / "store" / "model").write_bytes(b"x" * 2_500_000)
    (tmp_path / "home" / ".airloop-home").touch()
    (tmp_path / "home" / "jdk").mkdir()
    return tmp_path / "home"


def airloop(*words: str, stdin: int = subprocess.DEVNULL) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "local.cli", *words]
    return subprocess.run(command, cwd=paths.ROOT, stdin=stdin, capture_output=True, text=True, check=False)


def typed(answer: str) -> int:
    """A terminal's end with this answer typed."""
    ours, theirs = pty.openpty()
    os.write(ours, answer.encode())
    return theirs


def test_down_keeps_what_somebody_works_with(home: Path) -> None:
    done = airloop("down")
    assert done.returncode == 0
    assert (home / "store" / "model").stat().st_size == 2_500_000
    assert f"The data stay in {home}; `airloop delete` deletes them." in done.stdout


def test_delete_without_a_terminal_or_a_flag_deletes_nothing(home: Path) -> None:
    done = airloop("delete")
    assert done.returncode == 1
    assert "Nothing was deleted: there is no terminal to ask at. `airloop delete --yes`" in done.stderr
    assert (home / "store" / "model").exists()


def test_delete_says_what_goes_with_its_size_and_asks(home: Path) -> None:
    done = airloop("delete", stdin=typed("no\n"))
    assert "store" in done.stdout and "2.5 MB" in done.stdout
    assert "What stays: jdk." in done.stdout
    assert "Nothing was deleted." in done.stdout and (home / "store" / "model").exists()
    assert "Deleted what was in" in airloop("delete", stdin=typed("yes\n")).stdout
    assert [entry.name for entry in home.iterdir()] == ["jdk"]


def test_a_script_says_yes(home: Path) -> None:
    assert airloop("delete", "--yes").returncode == 0
    assert not (home / "store").exists()


def test_the_demo_empties_its_own_home_and_no_other(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Up to the start of its services, which are in the demo's home on the demo's ports."""
    (home / "demo" / "store").mkdir(parents=True)
    (home / "demo" / "store" / "old").touch()
    (home / "demo" / ".airloop-home").touch()
    monkeypatch.setenv("AIRLOOP_STORE", url_of(home / "store"))
    started = []

    def up() -> None:
        started.append((env.place(), os.environ["AIRLOOP_STORE"], os.environ["AIRLOOP_HOME"]))
        assert env.environment()["AIRLOOP_ADMIN_TOKEN"] == keys.admin_token(keys.load(home / "demo")), "of new secrets"
        raise LocalError("enough")

    monkeypatch.setattr(stack, "up", up)
    before = dict(os.environ)
    try:
        assert demo.demo(None, containers=False, without=()) == 1
    finally:
        os.environ.clear()
        os.environ.update(before)
    ((where, store, inner),) = started
    assert (home / "store" / "model").stat().st_size == 2_500_000
    assert not (home / "demo" / "store" / "old").exists()
    assert where.home == Path(inner) == home / "demo"
    assert (where.airflow_port, where.mlflow_port, where.online_port) == (8180, 5100, 8100)
    assert store == url_of(home / "demo" / "store"), "the demo must not write where AIRLOOP_STORE has somebody's work"
    said = capsys.readouterr().out
    assert f"a home of its own, {home}/demo" in said and f"{home} is not touched" in said
    assert "airloop down --demo" in said


def test_one_word_reaches_the_demo_s_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRLOOP_DEMO", "1")
    made = env.environment()
    assert made["AIRLOOP_HOME"] == str(home / "demo")
    assert made["AIRLOOP_AIRFLOW_PORT"] == "8180"
    # what that environment is laid over means the same home, and not a demo in the demo
    for name, value in made.items():
        monkeypatch.setenv(name, value)
    assert env.place().home == home / "demo"
    assert env.place().airflow_port == 8180
