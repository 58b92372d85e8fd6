from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException
from airloop.process import CommandError, WaitError
from airloop.spark import SparkOperator, _explained
from airloop.stage import job, stage

from tasks.core.results import Interval, Result, Status, merge
from tests.plugins.checkout import make
from tests.plugins.conftest import FLIGHTS


@pytest.fixture(autouse=True)
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "run/tasks").mkdir(parents=True)
    monkeypatch.setenv(
        "AIRFLOW_CONN_SPARK_DEFAULT",
        json.dumps({"conn_type": "spark", "host": "local[1]", "extra": {"deploy-mode": "client"}}),
    )
    make(tmp_path, monkeypatch)
    shutil.copy(tmp_path / "tasks/__init__.py", tmp_path / "run/tasks")
    (tmp_path / "run/tasks/core").symlink_to(tmp_path / "tasks/core")
    return tmp_path


@pytest.fixture
def without_jvm(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands in for spark-submit's JVM, which takes ten seconds to start on a busy machine: one test has the real one."""
    submit = checkout / "bin/spark-submit"
    submit.parent.mkdir()
    submit.write_text(
        f'#!/bin/sh\nwhile [ "${{1%.py}}" = "$1" ]; do shift; done\nexec {shlex.quote(sys.executable)} "$@"\n'
    )
    submit.chmod(0o755)
    monkeypatch.setenv("PATH", f"{submit.parent}{os.pathsep}{os.environ['PATH']}")


def asked(checkout: Path) -> list[str]:
    return (checkout / "asked").read_text().splitlines()


def ends_with(result: Result) -> str:
    return (
        "import os, sys\n"
        f"open(os.environ['AIRLOOP_RESULT'], 'w').write({json.dumps(result.to_dict())!r})\n"
        f"sys.exit({result.exit_code})\n"
    )


def test_a_known_result_is_not_submitted(context, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (checkout / "known").touch()
    task = stage(FLIGHTS, "features")
    monkeypatch.setattr(SparkOperator, "_submit", lambda *_: pytest.fail("it was submitted"))
    assert task.execute(context("flights.ingest"))["known"] is True
    assert asked(checkout) == ["begin features"]


@pytest.mark.usefixtures("without_jvm")
def test_a_stage_is_submitted_in_its_workspace_and_then_recorded(
    context, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRLOOP_MODEL", "another")  # Airflow's own, for all models
    (checkout / "run/tasks/features.py").write_text(
        "import os, sys\nfrom tasks.core.results import emit\n"
        "emit({'cwd': os.getcwd(), 'argv': sys.argv[1:], 'run': os.environ['AIRLOOP_RUN'], 'path': os.environ['PYTHONPATH'],"
        " 'lease': os.environ['AIRLOOP_LEASE'], 'model': os.environ['AIRLOOP_MODEL']})\n"
    )
    report = stage(FLIGHTS, "features").execute(context("flights.ingest"))
    assert report["cwd"] == str(checkout / "run")
    assert str(checkout / "run") in report["path"]
    assert report["argv"] == ["--interval", "2013-04"]
    assert report["run"].startswith("flights-ingest-2013-04-")
    assert report["lease"] == str(checkout / "run.lease"), "the script holds its workspace as long as it works"
    assert report["model"] == "flights"
    assert report["stages"] == ["features@2013-04"]
    assert asked(checkout) == ["begin features", "complete features"]
    assert "AIRLOOP_LEASE" not in os.environ and "AIRLOOP_RESULT" not in os.environ


def test_a_script_that_refuses_under_spark_submit_is_not_retried_and_nothing_is_recorded(
    context, checkout: Path
) -> None:
    (checkout / "run/tasks/features.py").write_text(ends_with(Result(Status.REFUSED, "2013-04 has two headers.")))
    with pytest.raises(AirflowFailException, match=r"^2013-04 has two headers\.$"):
        stage(FLIGHTS, "features").execute(context("flights.ingest"))
    assert asked(checkout) == ["begin features"]


@pytest.mark.usefixtures("without_jvm")
@pytest.mark.parametrize(
    "script",
    [
        "import sys\nprint('error: 31% of the rows are bad', file=sys.stderr)\nsys.exit(1)\n",
        "raise ConnectionError('the store is away')\n",
        "import os\nos.kill(os.getpid(), 9)\n",
        # It was done and then something else went wrong: what it wrote may not be whole.
        ends_with(Result()).replace("sys.exit(0)", "sys.exit(1)"),
    ],
    ids=["a line that begins with error", "traceback", "SIGKILL", "done, and then not"],
)
def test_a_crash_under_spark_submit_is_tried_again_and_nothing_is_recorded(
    context, checkout: Path, script: str
) -> None:
    (checkout / "run/tasks/features.py").write_text(script)
    with pytest.raises(AirflowException) as caught:
        stage(FLIGHTS, "features").execute(context("flights.ingest"))
    assert not isinstance(caught.value, AirflowFailException)
    assert asked(checkout) == ["begin features"]


@pytest.mark.usefixtures("without_jvm")
@pytest.mark.parametrize(
    ("status", "error"),
    [(Status.SKIPPED, AirflowSkipException), (Status.REFUSED, AirflowFailException), (Status.WAITING, WaitError)],
)
def test_what_a_script_says_under_spark_submit_means_what_it_means_in_a_process(
    context, checkout: Path, status: Status, error: type[Exception]
) -> None:
    (checkout / "run/tasks/features.py").write_text(ends_with(Result(status, "the reason")))
    with pytest.raises(error, match=r"^the reason$"):
        stage(FLIGHTS, "features").execute(context("flights.ingest"))
    assert asked(checkout) == ["begin features"]


def test_a_document_that_the_exit_code_contradicts_is_no_refusal(tmp_path: Path) -> None:
    """The script was killed after it wrote the document, or another wrote it: another try may end otherwise."""
    (tmp_path / "result.json").write_text(json.dumps(Result(Status.REFUSED, "the reason").to_dict()))
    with (
        pytest.raises(AirflowException, match="spark-submit") as caught,
        _explained(tmp_path / "result.json", lambda: 137),
    ):
        raise AirflowException("Cannot execute: spark-submit x.")
    assert not isinstance(caught.value, AirflowFailException)


@pytest.mark.usefixtures("without_jvm")
def test_a_job_is_submitted_with_its_arguments_and_has_nothing_to_record(context, checkout: Path) -> None:
    (checkout / "run/tasks/score.py").write_text(
        "import sys\nfrom tasks.core.results import emit\nemit({'argv': sys.argv[1:]})\n"
    )
    assert job(FLIGHTS, "score").execute(context("flights.score")) == {"argv": ["--interval", "2013-04"]}
    assert asked(checkout) == ["begin score"]


@pytest.mark.usefixtures("without_jvm")
def test_a_job_that_ends_well_and_says_nothing_has_crashed(context, checkout: Path) -> None:
    (checkout / "run/tasks/score.py").write_text("")
    with pytest.raises(CommandError, match="wrote no result"):
        job(FLIGHTS, "score").execute(context("flights.score"))


@pytest.mark.usefixtures("without_jvm")
def test_light_stages_before_it_run_first_and_begin_the_run(context, checkout: Path) -> None:
    (checkout / "run/tasks/features.py").write_text("")
    stage(FLIGHTS, "manifest", "features").execute(context("flights.ingest"))
    assert asked(checkout) == ["stage manifest", "begin features", "complete features"]


SPAN = {"interval": "2013-04", "through": "2013-07"}


@pytest.mark.usefixtures("without_jvm")
def test_a_span_is_submitted_once_for_what_is_not_known_and_one_that_is_refused_fails_no_other(
    context, checkout: Path
) -> None:
    """April is known, May is made, June is refused; July waits for it."""
    (checkout / "begin.json").write_text(
        json.dumps(
            {
                "begun": ["2013-05", "2013-06"],
                "behind": ["2013-07"],
                "argv": ["--interval", "2013-05", "--interval", "2013-06"],
            }
        )
    )
    ends = {"2013-05": Interval(Status.DONE), "2013-06": Interval(Status.REFUSED, "two headers")}
    script = ends_with(merge(ends, {}))
    (checkout / "run/tasks/features.py").write_text(
        f"import sys\nopen('argv', 'w').write(' '.join(sys.argv[1:]))\n{script}"
    )
    report = stage(FLIGHTS, "features").execute(context("flights.ingest", partition_key=None, params=SPAN))
    assert (checkout / "run/argv").read_text() == "--interval 2013-05 --interval 2013-06"
    assert asked(checkout) == ["begin features", "complete features"]
    assert report["intervals"] == ["2013-04", "2013-05"]
    assert report["refused"] == {"2013-06": "two headers"}


@pytest.mark.usefixtures("without_jvm")
def test_a_span_of_which_nothing_was_made_ends_as_what_is_not_behind_another(context, checkout: Path) -> None:
    (checkout / "begin.json").write_text(
        json.dumps({"begun": ["2013-04", "2013-05"], "behind": ["2013-06", "2013-07"], "argv": []})
    )
    ends = {key: Interval(Status.REFUSED, "two headers") for key in ("2013-04", "2013-05")}
    (checkout / "run/tasks/features.py").write_text(ends_with(merge(ends, {})))
    with pytest.raises(AirflowFailException, match="2013-04: two headers"):
        stage(FLIGHTS, "features").execute(context("flights.ingest", partition_key=None, params=SPAN))
    assert asked(checkout) == ["begin features"]
