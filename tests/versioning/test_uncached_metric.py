"""A metric with `cache: false` stays where it was made; a stage elsewhere gets the other outputs without it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tasks.versioning.new_project import initialise
from tasks.versioning.project import Project

PIPELINE = """
stages:
  measure:
    cmd: python measure.py
    deps: [measure.py]
    outs: [report]
    metrics:
      - seconds.json: {cache: false}
"""
MEASURE = "import pathlib; pathlib.Path('report').write_text('r'); pathlib.Path('seconds.json').write_text('{}')"


def test_outputs_come_back_without_the_metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    here, there = tmp_path / "here", tmp_path / "there"
    for root in (here, there):
        root.mkdir()
        (root / "dvc.yaml").write_text(PIPELINE)
        (root / "measure.py").write_text(MEASURE)
        initialise(root, cache=root / "cache", remote=str(tmp_path / "remote"), site_cache=root / "site")
    monkeypatch.chdir(here)
    project = Project(here)
    project.reproduce(["measure"])
    project.push(["measure"])
    project.close()

    (there / "dvc.lock").write_bytes((here / "dvc.lock").read_bytes())
    monkeypatch.chdir(there)
    project = Project(there)
    project.materialise(["measure"])
    project.close()
    assert (there / "report").read_text() == "r"
    assert not (there / "seconds.json").exists()
    (there / "dvc.lock").unlink()
    project = Project(there)
    assert project.record_if_known("measure"), "the result is known, though the metric is not kept"
    project.close()
