"""Setting up: what is said where it cannot be done, and that a second time costs nothing."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from local import bootstrap, java, paths
from local.errors import LocalError


def test_a_python_that_is_too_old_is_told_what_to_do(monkeypatch, capsys):
    monkeypatch.setattr(sys, "version_info", (3, 10, 2))
    assert bootstrap.main() == 1
    assert "Airloop needs Python 3.11, 3.12 or 3.13" in capsys.readouterr().err


def test_it_needs_nothing_but_the_standard_library():
    code = "import local.bootstrap, local.java, local.paths, local.pytorch, local.errors"
    subprocess.run([sys.executable, "-S", "-c", code], cwd=paths.ROOT, check=True)


def test_a_second_setup_is_quick():
    if not bootstrap.is_current(bootstrap.wanted_digest()):
        pytest.skip("this environment was not made by `make setup`")
    begun = time.monotonic()
    subprocess.run([sys.executable, "-m", "local.bootstrap"], cwd=paths.ROOT, check=True)
    # 0.2 s where nothing else runs; the bound leaves room for a loaded machine.
    assert time.monotonic() - begun < 3


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"digest": "other", "java_home": "/"}'])
def test_a_stamp_that_is_broken_or_of_other_locks_means_setting_up_again(tmp_path, monkeypatch, text):
    monkeypatch.setattr(paths, "STAMP", tmp_path / "stamp")
    (tmp_path / "stamp").write_text(text)
    assert not bootstrap.is_current("wanted")


def test_a_stamp_whose_java_has_gone_means_setting_up_again(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "STAMP", tmp_path / "stamp")
    (tmp_path / "stamp").write_text(json.dumps({"digest": "wanted", "java_home": str(tmp_path)}))
    assert not bootstrap.is_current("wanted")


def test_no_java_and_no_download_is_one_sentence_with_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setattr(java, "find", lambda: None)
    monkeypatch.setattr(java, "JDK_CACHE", tmp_path / "jdk")
    failing = tmp_path / "python"
    failing.write_text("#!/bin/sh\necho 'URLError: no route' >&2\nexit 1\n")
    failing.chmod(0o755)
    with pytest.raises(
        LocalError, match=r"none was found, and the download failed \(URLError: no route\). Install one"
    ):
        java.ensure(failing)


def test_the_locks_hold_hashes_and_no_address():
    for lock in (paths.ROOT / "requirements").glob("*.txt"):
        text = lock.read_text()
        assert "--hash=sha256:" in text, f"{lock.name}: compile it with `make lock`"
        for address in (
            "://",
            "--index-url",
            "--extra-index-url",
            "--find-links",
            str(paths.ROOT),
            str(Path.home()),
        ):
            assert address not in text, f"{lock.name} holds {address}: compile it with `make lock`"


def test_no_lock_pulls_torch_into_the_main_environment():
    lines = (paths.ROOT / "requirements" / "main.txt").read_text().splitlines()
    assert [line for line in lines if line.startswith(("torch==", "nvidia-"))] == []
