"""Spark reads and writes in a folder of any name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.engines import jvm
from tasks.settings.environment import CODE
from tests.names import NAMES

SCRIPT = """
import json, sys
from pathlib import Path
import pyarrow.parquet as pq
from tasks.engines import spark
session = spark.session("names")
frame = session.range(5).selectExpr("id AS at")
for folder in map(Path, json.loads(sys.argv[1])):
    target = folder / "one.parquet"
    spark.write_single(frame, ("at",), target, folder / "temporary")
    assert spark.read(session, [target], pq.read_schema(target)).count() == 5, folder
"""


@pytest.mark.slow
def test_spark_reads_and_writes_in_a_folder_of_any_name(tmp_path: Path) -> None:

    scratch = tmp_path / NAMES["all"].replace(",", "")
    scratch.mkdir()
    folders = [tmp_path / "data" / name for name in NAMES.values()]
    options = " ".join((jvm.flag(f"-Djava.io.tmpdir={scratch}"), jvm.options()))
    env = {
        "PYTHONPATH": str(CODE),
        "TMPDIR": str(scratch),
        "SPARK_LOCAL_DIRS": str(scratch),
        "SPARK_SUBMIT_OPTS": options,
    }

    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps([str(folder) for folder in folders])],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == sorted(NAMES.values())
    assert all([path.name for path in folder.iterdir()] == ["one.parquet"] for folder in folders)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["data", scratch.name])
