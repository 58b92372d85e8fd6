"""A home with real intervals and a registered model: after a clean-up, and after backup and restore, nothing is lost that counts.

Made with the commands that Airflow's tasks run, less Airflow.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from bench import home as made_home
from local import paths
from tasks.core.urls import url_of
from tasks.landing import landed_index
from tasks.registry import versions
from tasks.storage.artefacts import Store

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3600)]  # a busy machine takes its time

LONG_AGO = time.time() - 1000 * 86400


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[made_home.Home]:
    before = dict(os.environ)
    try:
        with made_home.opened(tmp_path_factory.mktemp("kept") / "home") as home:
            yield home
    finally:
        os.environ.clear()
        os.environ.update(before)
        made_home.tasks_environment.cache_clear()


def command(*words: str, **environ: str) -> str:
    """What one of our commands says, in a process of its own; it must succeed."""
    env = {**os.environ, "PYTHONPATH": str(paths.ROOT), **environ}
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=environ.get("AIRLOOP_HOME", os.environ["AIRLOOP_HOME"]),
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def age(folder: Path) -> None:
    """Everything below was written long ago."""
    for path in sorted(folder.rglob("*"), reverse=True):
        os.utime(path, (LONG_AGO, LONG_AGO), follow_symlinks=False)


def a_prediction(store: Store) -> str:
    name = next(name for name in store.names("predictions") if name.endswith(".parquet"))
    return str(pq.read_table(io.BytesIO(store.read(name)))["prediction_id"][0])


def rebuild_all(store: Store, **environ: str) -> None:
    registered = versions.read_all(store)
    assert registered
    for number in registered:
        assert "the same ONNX bytes" in command("tasks.rebuild", str(number), **environ)


def test_every_registered_model_is_rebuilt_after_a_clean_up(home: made_home.Home) -> None:
    prediction = a_prediction(home.store)
    names = set(home.store.names(""))
    planted = home.folder / "remote/files/md5/00" / ("0" * 30)
    planted.parent.mkdir(parents=True, exist_ok=True)
    planted.write_bytes(b"of a training that nothing came of")
    for folder in ("store", "remote", "cache", "runs", "dvc-site"):
        age(home.folder / folder)

    said = command("tasks.gc")
    assert "Nothing was deleted" in said and planted.exists() and set(home.store.names("")) == names
    command("tasks.gc", "--delete")
    assert not planted.exists()
    assert list((home.folder / "runs").iterdir()) == []
    assert list((home.folder / "dvc-site/repo").iterdir()) == [], "one for each workspace"
    gone = {name.split("/")[1] for name in names - set(home.store.names(""))}
    assert gone and not any(run.startswith(("flights-ingest", "flights-train")) for run in gone), (
        "they made what is landed and live"
    )
    rebuild_all(home.store)
    assert "Model       flights v1" in command("tasks.lineage", prediction)


def test_a_backup_makes_an_empty_home_whole(home: made_home.Home, tmp_path: Path) -> None:
    prediction = a_prediction(home.store)
    command("local.cli", "backup", str(tmp_path / "copy"))
    new = tmp_path / "new home"
    places = {f"AIRLOOP_{name}": "" for name in ("STORE", "LANDING", "DVC_REMOTE", "DVC_CACHE", "STUDIES")}
    there = {**places, "AIRLOOP_HOME": str(new), "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'empty.db'}"}
    new.mkdir()
    command("local.cli", "restore", str(tmp_path / "copy"), **there)
    restored = Store(url_of(new / "store")).part("flights")
    there_before = [name for name in home.store.names("") if not name.startswith(f"{landed_index.FOLDER}/")]
    assert restored.names("") == there_before, "the index is built again from the records"
    assert list(landed_index.read(restored)) == list(landed_index.read(home.store))
    assert all(restored.read(name) == home.store.read(name) for name in restored.names(""))
    assert "Model       flights v1" in command("tasks.lineage", prediction, **there)
    rebuild_all(restored, **there)
    said = command("tasks.deploy", "--reconcile", **there)
    assert "v1 registered again from the store" in said and "champion -> v1" in said
