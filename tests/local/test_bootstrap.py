"""Setting up: what is said where it cannot be done, and that a second time costs nothing."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from local import bootstrap, java, paths
from local.errors import LocalError
from tests.names import NAMES


def test_a_python_that_is_too_old_is_told_what_to_do(monkeypatch, capsys):
    monkeypatch.setattr(sys, "version_info", (3, 10, 2))
    assert bootstrap.main() == 1
    assert "Airloop needs Python 3.11, 3.12 or 3.13" in capsys.readouterr().err


def test_it_needs_nothing_but_the_standard_library():
    code = "import local.bootstrap, local.java, local.paths, local.pytorch, local.errors, local.installers, local.leaks"
    subprocess.run([sys.executable, "-S", "-c", code], cwd=paths.ROOT, check=True)


def test_a_second_setup_is_quick():
    if not bootstrap.is_current(bootstrap.wanted_digest()):
        pytest.skip("this environment was not made by `make setup`")
    before = os.times()
    subprocess.run([sys.executable, "-m", "local.bootstrap"], cwd=paths.ROOT, check=True)
    after = os.times()
    # 0.2 s; of the processor, since a busy machine takes longer by the clock.
    assert after.children_user + after.children_system - before.children_user - before.children_system < 3


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


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_the_checkout_is_installed_from_a_folder_of_any_name(tmp_path, monkeypatch, name):
    root, commands = tmp_path / name, []
    root.mkdir()
    shutil.copy(paths.ROOT / "pyproject.toml", root)
    monkeypatch.setattr(paths, "ROOT", root)
    monkeypatch.setattr(bootstrap, "_python", lambda: Path(sys.executable))
    monkeypatch.setattr(bootstrap, "_run", lambda *command: commands.append(command))
    bootstrap._environment()
    assert bootstrap._succeeds(*commands[-1], "--dry-run")


def test_the_environment_starts_in_a_locale_without_the_letters_of_its_checkout(tmp_path):
    root = tmp_path / "Füße"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", root / ".venv"], check=True)
    (packages,) = (root / ".venv/lib").glob("python*/site-packages")
    (packages / "__editable__.airloop-0.1.0.pth").write_text(f"{root}\n", encoding="utf-8")
    (root / "found_here.py").touch()
    for _ in range(2):
        bootstrap._name_relatively(root / ".venv")
        command = [root / ".venv/bin/python", "-c", "import found_here"]
        subprocess.run(command, env={"LC_ALL": "C"}, check=True)


@pytest.mark.parametrize("name", ["100%", "a:b"])
def test_a_checkout_in_a_folder_that_cannot_be_is_one_sentence(tmp_path, monkeypatch, capsys, name):
    monkeypatch.setattr(paths, "ROOT", tmp_path / name)
    assert bootstrap.main() == 1
    assert f"{tmp_path / name}, and a {name[-1] if name[-1] == '%' else ':'} in its path" in capsys.readouterr().err


def test_a_fresh_clone_gets_a_run_yaml_and_one_that_is_there_stays(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(paths, "STAMP", tmp_path / "stamp")
    monkeypatch.setattr(bootstrap, "wanted_digest", lambda: "d")
    monkeypatch.setattr(bootstrap, "is_current", lambda _: True)
    monkeypatch.setattr("local.pytorch.wanted", lambda: False)
    monkeypatch.setattr(bootstrap, "_succeeds", lambda *words: asked.append(words[1:]))
    bootstrap.setup()
    assert asked.count(("-m", "local.cli", "render")) == 1
    (tmp_path / "run.yaml").write_text("model: other\n")
    bootstrap.setup()
    assert asked.count(("-m", "local.cli", "render")) == 1
