"""Features and batch scoring on Spark's own cluster (spark://): a master and a worker, submitted to as the operator does."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from airloop import spark_conf

from tasks import ingest, manifest, validate
from tasks.landing import landed
from tasks.settings.environment import CODE
from tasks.storage.artefacts import Store
from tests.killing import digests, run_to_end
from tests.makers import Workspace, make_champion, put_settings
from tests.tasks.conftest import INTERVAL, Place, Tables

BIN = Path(sys.executable).parent
HERE = "127.0.0.1"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A standalone master with one worker of one core, both on loopback."""
    folder = tmp_path_factory.mktemp("spark")
    with socket.socket() as free:
        free.bind((HERE, 0))
        url = f"spark://{HERE}:{free.getsockname()[1]}"
    port = url.rpartition(":")[2]
    env = {**os.environ, "SPARK_LOCAL_IP": HERE, "SPARK_NO_DAEMONIZE": "1", "SPARK_WORKER_DIR": str(folder / "work")}
    package = "org.apache.spark.deploy"
    commands = {
        "master": [f"{package}.master.Master", "--host", HERE, "--port", port, "--webui-port", "0"],
        "worker": [
            f"{package}.worker.Worker",
            "--host",
            HERE,
            "--webui-port",
            "0",
            "--cores",
            "1",
            "--memory",
            "2g",
            url,
        ],
    }
    started = []
    try:
        for name, arguments in commands.items():
            with (folder / f"{name}.log").open("w") as log:
                argv = [BIN / "spark-class", *arguments]
                started.append(subprocess.Popen(argv, env=env, cwd=folder, stdout=log, stderr=subprocess.STDOUT))
            said = {"master": "New state: ALIVE", "worker": "Successfully registered with master"}[name]
            until_said(folder / f"{name}.log", said)
        yield url
    finally:
        for process in started:
            process.terminate()
            process.wait()


def until_said(log: Path, said: str, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while said not in log.read_text():
        assert time.monotonic() < deadline, f"no {said!r} in {log.name}:\n{log.read_text()[-2000:]}"
        time.sleep(0.2)


def submit(master: str, script: str, folder: Path) -> list[str]:
    """The command line that the operator makes for this script."""
    job = spark_conf.Job("features", "", 1, "1g", {})
    conf = [word for pair in spark_conf.conf(master, {}, job, CODE).items() for word in ("--conf", "=".join(pair))]
    packed = spark_conf.pack_code(CODE, folder / "tasks.zip")
    return [
        str(BIN / "spark-submit"),
        "--master",
        master,
        "--py-files",
        packed,
        *conf,
        str(CODE / script),
        "--interval",
        INTERVAL,
    ]


def test_an_interval_has_the_bytes_that_one_process_gives_it(
    place: Place, year: Tables, master: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = Store(place.environ["AIRLOOP_STORE"]).part("flights")
    make_champion(store, Workspace(tmp_path_factory.mktemp("model"), rows_a_day=20).train(), data_through="2013-01")
    put_settings(place.workspace, [INTERVAL])
    place.land(
        {name: (header, [r for r in rows if r[header.index("month")] == "2"]) for name, (header, rows) in year.items()}
    )
    for stage in (manifest, ingest, validate):
        place.run(stage)
    env = {**place.environ, "PYTHONPATH": str(CODE), "PYSPARK_PYTHON": sys.executable}
    run_to_end([sys.executable, str(CODE / "tasks/features.py"), "--interval", INTERVAL], place.workspace, env)
    features = (place.workspace / f"data/features/{INTERVAL}.parquet").read_bytes()
    record = {
        "interval": INTERVAL,
        "previous": INTERVAL,
        "run": "r",
        "manifest": "",
        "counts": {},
        "lock": {},
        "state": {},
    }
    md5 = hashlib.md5(features, usedforsecurity=False).hexdigest()
    landed.write(store, landed.Landed.model_validate({**record, "features": md5}))
    run_to_end([sys.executable, str(CODE / "tasks/score.py"), "--interval", INTERVAL], place.workspace, env)
    expected = digests(place.workspace), digests(place.store)
    assert f"predictions/{INTERVAL}/v1.parquet" in expected[1]

    (place.workspace / f"data/features/{INTERVAL}.parquet").unlink()
    for old in (place.store / f"predictions/{INTERVAL}").iterdir():
        old.unlink()
    for script in ("tasks/features.py", "tasks/score.py"):
        run_to_end(submit(master, script, tmp_path), place.workspace, env)
    assert (digests(place.workspace), digests(place.store)) == expected
