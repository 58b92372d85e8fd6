"""dvc.yaml at the top of a checkout, with the run.yaml that `airloop` writes: what a changed setting makes again, for any model."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from dvc.repo import Repo

from local import cli, paths
from local.verbs import models
from tasks.settings import settings_files
from tasks.settings.environment import CODE
from tasks.versioning.new_project import initialise

ALWAYS = {"manifest", "resolve"}
"""Stages that always run."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with two models, in which every stage of each counts as done."""
    root = tmp_path_factory.mktemp("top") / "checkout"
    for name in ("models", "tasks"):
        shutil.copytree(CODE / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(CODE / name, root)
    shutil.copytree(root / "models/flights", root / "models/second")
    declared = root / "models/second/model.py"
    declared.write_text(declared.read_text().replace('name="flights"', 'name="second"'))
    replace(root / "models/second/params.yaml", "auc: 0.70,", "auc: 0.61,")
    initialise(root, cache=root / ".cache", remote=str(root / ".remote"), site_cache=root / ".site")
    return root


@pytest.fixture
def top(made: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    root = tmp_path / "checkout"
    shutil.copytree(made, root)
    return root


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def finish(root: Path) -> None:
    """Record every stage as done, with outputs of a line."""
    with project(root) as repo:
        for stage in repo.index.stages:
            for out in stage.outs:
                path = Path(out.fs_path)
                path = path if path.suffix else path / "made.txt"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(stage.addressing)
        repo.commit(force=True)


@contextlib.contextmanager
def project(root: Path) -> Iterator[Repo]:
    """DVC's view of ``root``, from there."""
    with contextlib.chdir(root):
        repo = Repo()
        try:
            yield repo
        finally:
            repo.close()


def changed(root: Path) -> set[str]:
    """Stages that `dvc repro` would run first; what follows from them shows when they have run."""
    with project(root) as repo:
        status = repo.status()
    return {name.split("@")[0] for name in status} - ALWAYS


def test_every_stage_is_resolved_for_the_rendered_run(top: Path) -> None:
    settings_files.render(top)
    with project(top) as repo:
        names = {stage.addressing for stage in repo.index.stages}
    intervals = settings_files.rendered(top)["intervals"]
    assert {f"features@{interval}" for interval in intervals} <= names
    assert {"golden", "train", "resolve", "evaluate", "gate"} <= names
    assert len(names) == 5 * len(intervals) + 5


@pytest.mark.parametrize(
    ("file", "old", "new", "stages"),
    [
        ("models/flights/params.yaml", "auc: 0.70,", "auc: 0.71,", {"gate"}),
        ("models/flights/params.yaml", "min_auc: 0.64", "min_auc: 0.65", {"gate", "evaluate"}),
        (
            "models/flights/params.yaml",
            "trailing_days: 7",
            "trailing_days: 8",
            {"validate", "labels", "features", "gate"},
        ),
        ("models/flights/params.yaml", "max_depth: 4", "max_depth: 5", {"train"}),
        ("models/flights/params.yaml", "max_psi: 0.25", "max_psi: 0.26", {"gate"}),
        ("params.yaml", "calibration_bins: 10", "calibration_bins: 20", {"evaluate", "gate"}),
        ("params.yaml", "evictions: 6", "evictions: 7", set()),
        ("models/second/params.yaml", "auc: 0.61,", "auc: 0.62,", set()),
    ],
)
def test_a_changed_setting_changes_the_stages_that_use_it(
    finished: Path, tmp_path: Path, file: str, old: str, new: str, stages: set[str]
) -> None:
    root = tmp_path / "checkout"
    shutil.copytree(finished, root)
    replace(root / file, old, new)
    assert changed(root) == stages


@pytest.mark.parametrize(
    ("file", "old", "new", "stages"),
    [
        ("model.py", 'owner="airloop"', 'owner="team-two"', set()),
        ("model.py", "planned=SCHEDULE_FEATURES", "planned=SCHEDULE_FEATURES[1:]", set()),
        ("words.py", 'positive="late"', 'positive="tardy"', {"evaluate"}),
        ("golden.py", 'STRATA = ("origin", LABEL)', 'STRATA = ("dest", LABEL)', {"golden", "evaluate", "gate"}),
        (
            "model.py",
            "numbers=NUMBERS",
            "numbers=(*NUMBERS[1:], NUMBERS[0])",
            {"features", "train", "evaluate", "gate"},
        ),
        (
            "model.py",
            "label=LABEL,",
            "label=LABEL, maturity=__import__('datetime').timedelta(3),",
            {"labels", "golden", "train", "evaluate", "gate"},
        ),
    ],
)
def test_a_changed_declaration_changes_the_stages_that_read_it(
    finished: Path, tmp_path: Path, file: str, old: str, new: str, stages: set[str]
) -> None:
    root = tmp_path / "checkout"
    shutil.copytree(finished, root)
    replace(root / "models/flights" / file, old, new)
    render(root, "flights")
    assert changed(root) == stages


def render(root: Path, name: str) -> str:
    """What `airloop render` says in the checkout at ``root``."""
    command = [sys.executable, "-m", "local.cli", "render", name]
    environ = {**os.environ, "AIRLOOP_CODE": str(root)}
    return subprocess.run(command, cwd=root, env=environ, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def finished(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout with all of flights done."""
    root = tmp_path_factory.mktemp("finished") / "checkout"
    shutil.copytree(made, root)
    settings_files.render(root)
    finish(root)
    assert changed(root) == set()
    return root


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Of somebody at the top of the checkout."""
    monkeypatch.setenv("AIRLOOP_CODE", str(tmp_path / "checkout"))
    monkeypatch.setenv("AIRLOOP_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("AIRLOOP_MODEL", raising=False)
    return dict(os.environ)


def airloop(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "local.cli", *words]
    return subprocess.run(
        argv, cwd=paths.ROOT, env={**os.environ, **environ}, capture_output=True, text=True, check=False
    )


def test_repro_of_another_model_uses_that_model_s_file(top: Path, environ: dict[str, str]) -> None:
    settings_files.render(top, "second")
    finish(top)
    settings_files.render(top)
    replace(top / "models/second/params.yaml", "auc: 0.61,", "auc: 0.62,")
    done = airloop("repro", "second", "--", "--single-item", "gate", "--dry")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "run.yaml: second, 2013-01 to 2013-04" in done.stdout and "Running stage 'gate'" in done.stdout
    settled = airloop("repro", "second", "--", "--single-item", "train", "--dry")
    assert "Stage 'train' didn't change, skipping" in settled.stdout
    with project(top) as repo:
        files = {param.def_path for stage in repo.index.stages for param in stage.deps if hasattr(param, "params")}
    assert files == {*settings_files.names("second"), settings_files.spec_of("second")}
    code = "from tasks.settings import params; p = params.load(); print(p.model, p.gate.floors.auc)"
    read = subprocess.run(
        [sys.executable, "-c", code],
        cwd=top,
        env={**environ, "PYTHONPATH": str(top)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert read.stdout.split() == ["second", "0.62"]


def test_dvc_at_the_top_says_a_span_that_run_yaml_does_not_have_yet(top: Path, environ: dict[str, str]) -> None:
    """Only a stage that always runs can say so: DVC knows nothing of how run.yaml was made."""
    settings_files.render(top)
    replace(top / "models/flights/params.yaml", "last: 2013-04", "last: 2013-05")
    argv = [sys.executable, "-m", "dvc", "repro", "--single-item", "manifest@2013-01"]
    done = subprocess.run(
        argv, cwd=top, env={**environ, "PYTHONPATH": str(top)}, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0 and "write it again with `airloop render`" in done.stdout + done.stderr


def test_dvc_without_run_yaml_names_the_file(top: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "dvc", "status"], cwd=top, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "'run.yaml' does not exist" in done.stdout + done.stderr


@pytest.mark.parametrize("words", [["repro", "nope"], ["render", "nope"], ["render", "--first", "2012-12"]])
def test_what_cannot_be_is_a_sentence(top: Path, environ: dict[str, str], words: list[str]) -> None:
    done = CliRunner().invoke(cli.airloop, words)
    assert done.exit_code == 1 and done.output.startswith("Error: ") and done.output.count("\n") == 1
    assert not (top / "run.yaml").exists()


@pytest.mark.parametrize(
    ("words", "model", "rest"),
    [
        (["repro"], "flights", []),
        (["repro", "second"], "second", []),
        (["repro", "--", "train"], "flights", ["train"]),
        (["repro", "second", "--last", "2013-02", "--", "-f", "train"], "second", ["-f", "train"]),
    ],
)
def test_words_behind_the_dashes_are_dvc_s(
    top: Path, environ: dict[str, str], monkeypatch, words: list[str], model: str, rest: list[str]
) -> None:
    asked = {}

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        asked.update(options, command=command)
        return subprocess.CompletedProcess(command, 7 if "dvc" in command else 0)

    monkeypatch.setattr(models.subprocess, "run", run)
    done = CliRunner().invoke(cli.airloop, words)
    assert done.exit_code == 7, done.output
    assert asked["command"][2:] == ["dvc", "repro", *rest] and asked["cwd"] == top
    assert asked["env"]["AIRLOOP_MODEL"] == model == settings_files.read_run(top)["model"]


def test_rendering_brings_the_model_s_declaration_into_its_file(top: Path, environ: dict[str, str]) -> None:
    path = top / "models/second/spec.json"
    assert '"name": "flights"' in path.read_text(), "as it was copied"
    replace(top / "models/second/model.py", 'owner="airloop"', 'owner="team-two"')
    assert "models/second/spec.json: rendered\n" in render(top, "second")
    assert '"name": "second"' in path.read_text() and '"owner": "team-two"' in path.read_text()
