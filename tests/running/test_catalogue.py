"""What dvc.yaml and jobs.yaml say, and what is said of mistakes in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.core.errors import ConfigError
from tasks.running.catalogue import Catalogue
from tasks.settings.environment import CODE

META = "engine: python, cpu: 1, memory: 1Gi, timeout_minutes: 5"


def write(folder: Path, *, stage: str = META, job: str = META) -> Catalogue:
    (folder / "dvc.yaml").write_text(f"stages: {{one: {{cmd: python one.py, meta: {{{stage}}}}}}}")
    (folder / "jobs.yaml").write_text(f"jobs: {{two: {{cmd: python two.py, meta: {{{job}}}}}}}")
    return Catalogue(folder)


def test_argv_is_what_dvc_runs() -> None:
    features, train = Catalogue(CODE).stage("features"), Catalogue(CODE).stage("train")
    assert features.item("2013-04") == "features@2013-04"
    assert features.argv("2013-04") == ["python", "tasks/features.py", "--interval", "2013-04"]
    assert (train.item("2013-04"), train.argv("2013-04")) == ("train", ["python", "tasks/train.py"])
    assert features.keyed and not train.keyed


def test_a_job_has_the_interval_and_what_it_reads() -> None:
    score, monitor = Catalogue(CODE).job("score"), Catalogue(CODE).job("monitor")
    assert score.argv("2013-04") == ["python", "tasks/score.py", "--interval", "2013-04"]
    assert (score.reads, monitor.reads) == (("features@${key}",), ("features", "labels"))
    assert score.item("2013-04") == "score", "a job is in no dvc.lock"


def test_find_knows_both(tmp_path: Path) -> None:
    catalogue = write(tmp_path)
    assert catalogue.find("one").stage and not catalogue.find("two").stage


@pytest.mark.parametrize(
    ("meta", "said"),
    [
        ("engine: python", "unknown or missing: cpu, memory, timeout_minutes"),
        (f"{META}, gpu: 1", "unknown or missing: gpu."),
        (META.replace("python", "ray"), "meta.engine='ray' is unknown; use python or spark"),
        (META.replace("1Gi", "1G"), "meta.memory='1G' is no amount of memory; write 4Gi or 512Mi"),
    ],
)
def test_wrong_meta_is_explained(tmp_path: Path, meta: str, said: str) -> None:
    for read in (write(tmp_path, stage=meta, job=meta).stage, write(tmp_path, stage=meta, job=meta).job):
        with pytest.raises(ConfigError) as caught:
            read({"stage": "one", "job": "two"}[read.__name__])
        assert said in str(caught.value)


def test_what_only_the_other_may_have_is_unknown(tmp_path: Path) -> None:
    catalogue = write(tmp_path, stage=f"{META}, worker: true", job=f"{META}, spot: true")
    with pytest.raises(ConfigError, match="unknown or missing: worker"):
        catalogue.stage("one")
    with pytest.raises(ConfigError, match="unknown or missing: spot"):
        catalogue.job("two")


@pytest.mark.parametrize("name", ["one", "two", "three"])
def test_an_unknown_name_is_answered_with_those_there_are(tmp_path: Path, name: str) -> None:
    catalogue = write(tmp_path)
    if name != "one":
        with pytest.raises(ConfigError, match=rf"dvc\.yaml has no stage '{name}'; it has one\."):
            catalogue.stage(name)
    if name != "two":
        with pytest.raises(ConfigError, match=rf"jobs\.yaml has no job '{name}'; it has two\."):
            catalogue.job(name)


@pytest.mark.parametrize("missing", ["dvc.yaml", "jobs.yaml"])
def test_a_missing_file_names_the_setting(tmp_path: Path, missing: str) -> None:
    catalogue = write(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(ConfigError, match=rf"{missing} is missing; set AIRLOOP_CODE to a checkout"):
        catalogue.find("one")


def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    """A worker lives for long, and a checkout changes under it."""
    import os

    assert write(tmp_path).stage("one").cpu == 1
    catalogue = write(tmp_path, stage=META.replace("cpu: 1", "cpu: 2"))
    os.utime(tmp_path / "dvc.yaml", ns=(1, 1))
    assert catalogue.stage("one").cpu == 2
