"""PyTorch beside the locks: found where wheels are kept, its build remembered, kept over a later setup."""

import importlib.metadata
import os
from pathlib import Path

import pytest

from local import bootstrap, paths, pytorch

BARE = {"PIP_CONFIG_FILE": os.devnull, "UV_NO_CONFIG": "1"}
"""An environment in which pip and uv have no settings of this machine."""


class Recorder:
    """Runs nothing; says of each command whether it would have succeeded."""

    def __init__(self, *fails: str) -> None:
        self.fails, self.commands = fails, []

    def __call__(self, *words, quiet=False) -> bool:
        line = " ".join(map(str, words[8:]))
        self.commands.append(line)
        return not any(word in line for word in self.fails)


@pytest.fixture
def stamp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(pytorch, "TORCH_STAMP", tmp_path / ".torch.json")
    monkeypatch.setattr(pytorch, "VENV", tmp_path)
    package = tmp_path / "lib/python3.11/site-packages/torch"
    package.mkdir(parents=True)
    (package / "version.py").touch()
    return tmp_path / ".torch.json"


def test_a_folder_of_wheels_is_asked_first_for_just_this_build(stamp: Path) -> None:
    run, wheels = Recorder(), stamp.parent
    assert pytorch.install(run, Path("python"), "digest", BARE | {"PIP_FIND_LINKS": str(wheels)})
    assert run.commands[1:] == [f"--no-index --find-links {wheels} torch==2.13.0+cpu"]
    assert "--require-hashes" in run.commands[0]


def test_where_it_holds_none_the_builds_own_index_is_asked(stamp: Path) -> None:
    run, (one, other) = Recorder("--no-index"), (stamp.parent, stamp.parent / "lib")
    assert pytorch.install(run, Path("python"), "digest", BARE | {"UV_FIND_LINKS": f"{one},{other}"})
    assert run.commands[-1] == f"--find-links {one} --find-links {other} --torch-backend cpu torch==2.13.0"


@pytest.mark.parametrize(
    ("chosen", "words"), [("auto", "--torch-backend auto torch==2.13.0"), ("index", "torch==2.13.0")]
)
def test_a_build_that_only_an_index_can_choose(stamp: Path, chosen: str, words: str) -> None:
    run = Recorder()
    assert pytorch.install(run, Path("python"), "digest", BARE | {"TORCH": chosen})
    assert run.commands[1:] == [words]


def test_what_failed_leaves_no_stamp(stamp: Path) -> None:
    assert pytorch.install(Recorder(), Path("python"), "digest", BARE)
    assert pytorch.wanted()
    assert not pytorch.install(Recorder("torch=="), Path("python"), "digest", BARE)
    assert not pytorch.wanted()


def test_a_later_setup_keeps_the_build_and_renews_what_a_sync_took_away(stamp: Path) -> None:
    assert pytorch.install(Recorder(), Path("python"), "digest", BARE | {"TORCH": "cu128"})
    assert pytorch.build({}) == "cu128"
    assert pytorch.is_current("digest", BARE)
    assert not pytorch.is_current("another environment", {})
    assert not pytorch.is_current("digest", BARE | {"TORCH": "cpu"})
    next(stamp.parent.rglob("version.py")).unlink()
    assert not pytorch.is_current("digest", BARE)


def test_this_environment_has_the_version_that_is_asked_for() -> None:
    """Not skipped where it is missing: what is tested with it would be skipped unseen."""
    version = importlib.metadata.version("torch").partition("+")[0]
    assert version == pytorch.VERSION.read_text().strip()
    if bootstrap.is_current(bootstrap.wanted_digest()):
        assert paths.TORCH_STAMP.exists(), "run `make setup-torch`"
