from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from airloop.stage import act, stage
from airloop.workspace import workspace_argv

WORKSPACE = """
import json, os, sys
from pathlib import Path
argv = sys.argv[1:]
print("asked:", *argv)
if "skip" in argv: print("skipped: the gate says no"); raise SystemExit(99)
if "refuse" in argv: print("error: 2013-03 has not landed."); raise SystemExit(1)
Path(os.environ["AIRLOOP_RESULT"]).write_text(json.dumps({
    "month": "2013-04", "argv": argv, "who": os.environ["AIRLOOP_WHO"], "cwd": os.getcwd(), "path": os.environ["PYTHONPATH"]}))
"""
THING = Asset(name="thing", uri="x-airloop://thing")


@pytest.fixture(autouse=True)
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout whose workspace command only says what it was asked."""
    root = Path(__file__).parents[2]
    (tmp_path / "tasks/common").mkdir(parents=True)
    for package in ("tasks", "tasks/common"):  # or the installed packages of these names would be found first
        (tmp_path / package / "__init__.py").touch()
    (tmp_path / "dvc.yaml").write_text((root / "dvc.yaml").read_text())
    (tmp_path / "tasks/common/workspace.py").write_text(WORKSPACE)
    (tmp_path / "tasks/rescore.py").write_text(
        WORKSPACE.replace('"month": "2013-04"', '"months": ["2013-05", "2013-04"]')
    )
    monkeypatch.setenv("AIRLOOP_CODE", str(tmp_path))
    return tmp_path


def run(task: Any, context: dict[str, Any]) -> Any:
    return (
        type(task).execute.__wrapped__(task, context)
        if hasattr(type(task).execute, "__wrapped__")
        else task.execute(context)
    )


def test_a_stage_is_run_in_the_run_s_workspace_and_reports(context, checkout) -> None:
    told = run(stage("manifest", "ingest"), context("ingest"))
    assert told["argv"][:3] == ["stage", "manifest", "ingest"]
    assert told["argv"][3:5] == ["--dag", "ingest"]
    assert told["argv"][-3:] == ["--month", "2013-04", "--begins"]
    assert told["cwd"] == told["path"] == str(checkout)
    assert told["who"].startswith("airflow: ingest ")


def test_the_report_becomes_the_asset_event_of_the_month(context) -> None:
    given = context()
    run(act("register", outlets=[THING]), given)
    assert given["outlet_events"]["thing"].partitions == ["2013-04"]
    assert given["outlet_events"]["thing"].extra["month"] == "2013-04"


def test_a_report_may_be_about_other_months(context) -> None:
    given = context("deploy", partition_key=None)
    run(act("rescore", workspace=False, outlets=[THING]), given)
    assert given["outlet_events"]["thing"].partitions == ["2013-04", "2013-05"]


@pytest.mark.parametrize(("word", "error"), [("skip", AirflowSkipException), ("refuse", AirflowFailException)])
def test_who_is_skipped_or_refused_announces_nothing(context, word: str, error: type[Exception]) -> None:
    given = context()
    with pytest.raises(error):
        run(act("register", outlets=[THING], arguments=lambda _: [word]), given)
    assert not given["outlet_events"]


def test_overrides_and_an_act_s_arguments_reach_the_command_line(context) -> None:
    given = context(params={"overrides": {"train.xgboost.eta": 0.2, "golden.digest": None}})
    argv = workspace_argv("act", ["publish"], given, ["--month", "2013-04"])
    assert argv[argv.index("--set") :] == [
        "--set", "train.xgboost.eta=0.2", "--set", "golden.digest=null", "--rest", "--month", "2013-04",
    ]  # fmt: skip


def test_without_a_month_nothing_is_started(context) -> None:
    with pytest.raises(AirflowFailException, match="about no month"):
        workspace_argv("stage", ["train"], context(partition_key=None))
