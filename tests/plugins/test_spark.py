from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from airloop.process import CommandError
from airloop.spark import WorkspaceSparkOperator, _readable_failure
from airloop.stage import act, stage

WORKSPACE = """
import json, os, sys
from pathlib import Path
action = sys.argv[1]
with open("asked", "a") as file: print(*sys.argv[1:3], file=file)
ready = {"month": "2013-04", "workspace": str(Path("run").resolve())}
stage = {"cached": Path("cached").exists(), "argv": ["python", "tasks/features.py", "--month", "2013-04"]}
answer = {"ready": ready, "prepare": {**ready, **stage}, "commit": {"stages": ["features@2013-04"]}}[action]
Path(os.environ["AIRLOOP_RESULT"]).write_text(json.dumps(answer))
"""


@pytest.fixture(autouse=True)
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = Path(__file__).parents[2]
    (tmp_path / "tasks/common").mkdir(parents=True)
    for package in ("tasks", "tasks/common"):  # or the installed packages of these names would be found first
        (tmp_path / package / "__init__.py").touch()
    (tmp_path / "run/tasks").mkdir(parents=True)
    (tmp_path / "dvc.yaml").write_text((root / "dvc.yaml").read_text())
    (tmp_path / "tasks/common/workspace.py").write_text(WORKSPACE)
    monkeypatch.setenv("AIRLOOP_CODE", str(tmp_path))
    monkeypatch.setenv(
        "AIRFLOW_CONN_SPARK_DEFAULT",
        json.dumps({"conn_type": "spark", "host": "local[1]", "extra": {"deploy-mode": "client"}}),
    )
    return tmp_path


def test_a_known_result_is_not_submitted(context, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (checkout / "cached").touch()
    task = stage("features")
    monkeypatch.setattr(WorkspaceSparkOperator, "_submit", lambda *_: pytest.fail("it was submitted"))
    assert task.execute(context("ingest"))["cached"] is True
    assert (checkout / "asked").read_text().splitlines() == ["prepare features"]


def test_a_stage_is_submitted_in_its_workspace_and_then_recorded(
    context, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Stands in for the JVM, which takes ten seconds to start on a busy machine: the next test has the real one.
    submit = checkout / "bin/spark-submit"
    submit.parent.mkdir()
    submit.write_text(f'#!/bin/sh\nwhile [ "${{1%.py}}" = "$1" ]; do shift; done\nexec {sys.executable} "$@"\n')
    submit.chmod(0o755)
    monkeypatch.setenv("PATH", f"{submit.parent}{os.pathsep}{os.environ['PATH']}")
    (checkout / "run/tasks/features.py").write_text(
        "import json, os, sys\nopen(os.environ['AIRLOOP_RESULT'], 'w').write(json.dumps({'cwd': os.getcwd(), 'argv': sys.argv[1:],"
        " 'run': os.environ['AIRLOOP_RUN'], 'path': os.environ['PYTHONPATH']}))\n"
    )
    told = stage("features").execute(context("ingest"))
    assert told["cwd"] == str(checkout / "run")
    assert str(checkout / "run") in told["path"]
    assert told["argv"] == ["--month", "2013-04"]
    assert told["run"].startswith("ingest-2013-04-")
    assert told["stages"] == ["features@2013-04"]
    assert (checkout / "asked").read_text().splitlines() == ["prepare features", "commit features"]


def test_a_script_that_refuses_under_spark_submit_is_not_retried_and_nothing_is_recorded(
    context, checkout: Path
) -> None:
    (checkout / "run/tasks/score.py").write_text(
        "import sys\nprint('error: 2013-04 has not landed.', file=sys.stderr)\nsys.exit(1)\n"
    )
    task = act("score", engine="spark", memory="4Gi", arguments=lambda _: ["--month", "2013-04"])
    with pytest.raises(AirflowFailException, match=r"^2013-04 has not landed\."):
        task.execute(context("score"))
    assert (checkout / "asked").read_text().splitlines() == ["ready score"]


@pytest.mark.parametrize(
    ("code", "last", "error"),
    [
        (99, "skipped: nothing", AirflowSkipException),
        (137, "", CommandError),
        (1, "java.net.ConnectException", CommandError),
    ],
)
def test_spark_submit_s_exit_code_means_what_a_process_s_does(code: int, last: str, error: type[Exception]) -> None:
    from airflow.sdk.exceptions import AirflowException

    with pytest.raises(error), _readable_failure():
        raise AirflowException(
            f"Cannot execute: spark-submit x. Error code is: {code}.\nLast spark-submit output:\n{last}"
        )
