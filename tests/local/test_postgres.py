"""A real PostgreSQL as `up` starts it: in awkward homes, after every kind of death, beside what a shell says of others."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg2
import pytest

from local import paths, postgres, postgres_server, runtime
from local.errors import LocalError
from tests.postgres import forget, kill, launched, run, started
from tests.waiting import until

GERMAN = {"LANG": "de_DE.UTF-8", "LC_ALL": "de_DE.UTF-8"}


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "home"
    forget(tmp_path / "home")


def fill(home: Path) -> None:
    postgres.make_databases(home)
    run(home, "CREATE TABLE kept (word text)", "INSERT INTO kept VALUES ('größer')")


@pytest.mark.parametrize("mask", [0o077, 0o022])
@pytest.mark.parametrize("locale", [{"LANG": "C", "LC_ALL": "C"}, GERMAN], ids=["C", "German"])
def test_it_starts_in_any_home_with_any_locale_and_is_its_user_s_only(tmp_path, mask, locale):
    home = tmp_path / "Großmutters Rechner, 100% #1" / "home"
    before = os.umask(mask)
    try:
        with started(home, **locale) as process:
            fill(home)
            assert run(home, "SELECT word FROM kept") == [("größer",)]
            assert run(home, "SHOW lc_messages") == [("C",)]
            links = psutil.Process(process.pid).net_connections("inet")
            assert links == [], "it must not listen on the network"
            for folder in (runtime.folder(home), home / "postgres"):
                assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder
    finally:
        os.umask(before)
        forget(home)


@pytest.mark.parametrize("closed", [False, True], ids=["odd name", "closed to others"])
def test_it_starts_where_the_package_lies_in_any_folder(home, tmp_path, closed):
    """As in a clone in /root, or with a quote in its name: initdb itself hands its own path to a shell."""
    site = tmp_path / ("closed" if closed else 'mein "Ordner" $HOME `x` \\')
    package = postgres.program("initdb").parents[2]
    for part in package.parent.glob(f"{package.name}*"):
        shutil.copytree(part, site / part.name, symlinks=True)
    if closed:
        site.chmod(0o700)
    for again in range(2):
        with started(home, PYTHONPATH=f"{site}{os.pathsep}{paths.ROOT}"):
            fill(home) if not again else run(home, "SELECT word FROM kept")
    forget(home)
    assert not runtime.copies(home).exists()


def test_what_is_committed_survives_a_kill_of_everything(home):
    with started(home):
        fill(home)
    with started(home):
        assert run(home, "SELECT word FROM kept") == [("größer",)]


def test_a_first_start_that_was_killed_is_made_up_for(home):
    killed = launched(home)
    until((home / "postgres" / "begun").exists, "the first start")
    kill(killed)
    assert not postgres.data(home).exists()
    with started(home):
        fill(home)


def test_a_lock_that_names_another_program_by_now_does_not_matter(home):
    """Process ids come again, and after a new start of a container soon."""
    with started(home):
        fill(home)
        locks = (postgres.data(home) / "postmaster.pid", runtime.folder(home) / ".s.PGSQL.5432.lock")
        left = {lock: lock.read_text().split("\n", 1)[1] for lock in locks}
    with subprocess.Popen(["sleep", "120"], user=user_of(home)) as other:
        for lock, rest in left.items():
            lock.write_text(f"{other.pid}\n{rest}")
        with started(home):
            assert run(home, "SELECT word FROM kept") == [("größer",)]
        other.kill()


def test_it_waits_for_processes_that_a_killed_server_left(home):
    """PostgreSQL itself refuses to start beside them, and supervisord gives up after seconds."""
    with started(home) as killed:
        fill(home)
        left = [one for one in psutil.Process(killed.pid).children() if "checkpointer" in " ".join(one.cmdline())]
        (slow,) = left
        slow.suspend()  # as one that a busy machine does not let run
        killed.kill()
        killed.wait()
        with started_beside(home, slow):
            assert run(home, "SELECT word FROM kept") == [("größer",)]


@contextlib.contextmanager
def started_beside(home: Path, slow: psutil.Process) -> Iterator[None]:
    """A server that was started while ``slow`` was still there, which goes on some seconds later."""
    process = launched(home)
    try:
        time.sleep(4)
        assert process.poll() is None, "it waits"
        slow.resume()
        until(lambda: process.poll() is not None or postgres.answers(home, process.pid), "PostgreSQL")
        assert process.poll() is None, "it ended"
        yield
    finally:
        kill(process)


def user_of(home: Path) -> int:
    """Only a live process of its own user is one to PostgreSQL."""
    return postgres.data(home).stat().st_uid


def test_a_second_server_on_the_same_data_is_refused(home):
    with started(home):
        second = launched(home)
        _, words = second.communicate(timeout=60)
        assert b"is another postmaster" in words.lower() or b"already exists" in words.lower()


def test_what_a_shell_says_of_another_server_is_not_read(home, monkeypatch):
    for name, value in {"PGHOSTADDR": "127.0.0.9", "PGOPTIONS": "-c no_such=1", "PGDATA": "/nowhere"}.items():
        monkeypatch.setenv(name, value)
    with started(home):
        postgres.make_databases(home)
        assert {file.name for file in postgres.dump(home, home / "copies")} == {
            "airflow.dump",
            "mlflow.dump",
            "studies.dump",
        }


def test_a_stop_is_a_clean_one(home):
    with started(home) as process:
        postgres.make_databases(home)
        idle = psycopg2.connect(host=str(runtime.folder(home)), user=postgres.USER, dbname="studies")
        postgres.stop(home)
        process.wait(30)
        idle.close()
        command = [postgres.program("pg_controldata"), postgres.data(home)]
        said = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"LC_ALL": "C"})
        assert "shut down\n" in said.stdout
        assert postgres.server(home) is None


def test_copies_go_back_into_an_empty_home(home, tmp_path):
    with started(home):
        fill(home)
        postgres.set_remark(home, "studies", "migrated by 1")
        postgres.dump(home, tmp_path / "copies")
        run(home, "CREATE TABLE later (x int)", "DELETE FROM kept")
        postgres.restore(home, tmp_path / "copies")
        assert run(home, "SELECT word FROM kept") == [("größer",)]
        assert run(home, "SELECT to_regclass('later')") == [(None,)]
        assert postgres.remark(home, "studies") == "", "who migrated the tables of now is not known"
    empty = tmp_path / "empty"
    try:
        with started(empty):
            postgres.restore(empty, tmp_path / "copies")
            assert run(empty, "SELECT word FROM kept") == [("größer",)]
    finally:
        forget(empty)


def test_what_cannot_be_restored_stays_as_it_was(home, tmp_path):
    with started(home):
        fill(home)
        (tmp_path / "studies.dump").write_text("no copy")
        with pytest.raises(LocalError, match="pg_restore of"):
            postgres.restore(home, tmp_path, ["studies"])
        assert run(home, "SELECT word FROM kept") == [("größer",)]


def test_many_connections_at_once_are_served(home):
    with started(home):
        opened = [
            psycopg2.connect(host=str(runtime.folder(home)), user=postgres.USER, dbname="postgres") for _ in range(115)
        ]
        assert len(opened) < postgres_server.SETTINGS["max_connections"]
        for one in opened:
            one.close()


@pytest.mark.parametrize("name", postgres.OLD)
def test_a_home_of_an_older_airloop_gets_a_sentence_and_keeps_its_files(home, name):
    (home / name).parent.mkdir(parents=True)
    (home / name).touch()
    with pytest.raises(LocalError, match=rf"made by an older Airloop, whose SQLite databases \({name}\).*new folder"):
        postgres.check(home)
    assert (home / name).exists()


def test_data_of_another_major_version_get_a_sentence(home):
    postgres.data(home).mkdir(parents=True)
    (postgres.data(home) / "PG_VERSION").write_text("16\n")
    with pytest.raises(LocalError, match=r"was made by PostgreSQL 16 and this is 18; .*new folder"):
        postgres.check(home)


def test_an_empty_home_and_one_of_this_version_are_fine(home):
    postgres.check(home)
    postgres.data(home).mkdir(parents=True)
    (postgres.data(home) / "PG_VERSION").write_text(f"{postgres.MAJOR}\n")
    postgres.check(home)


@pytest.mark.parametrize("home", ["/d" + "eep" * 40, "/with space", "/mit/Umlaut/ü", "/100%", "/a,b"])
def test_a_home_that_no_socket_fits_has_a_short_private_folder(home):
    found = runtime.folder(Path(home))
    assert found != Path(home) / "run"
    assert found != runtime.folder(Path(home, "other"))
    assert runtime.PLAIN.fullmatch(str(found))
    with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(FileNotFoundError):
        probe.bind(str(found) + runtime.LONGEST_NAME)  # a path that is too long is another error


def test_a_short_home_has_its_sockets_itself():
    assert runtime.folder(Path("/short")) == Path("/short/run")


def test_a_folder_that_another_user_made_first_is_refused(home, monkeypatch):
    made = home / "planted"
    made.mkdir(parents=True)
    monkeypatch.setattr(runtime, "folder", lambda _home: made)
    monkeypatch.setattr(os, "getuid", lambda: made.stat().st_uid + 1)
    with pytest.raises(LocalError, match="belongs to another user"):
        runtime.make(home)
