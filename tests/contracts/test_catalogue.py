"""dvc.yaml's and jobs.yaml's commands against the code and the DAGs."""

from __future__ import annotations

import importlib.util

import pytest
import yaml

from tasks.running.catalogue import KEY, Catalogue, Work
from tasks.running.windows import _WINDOWS
from tasks.settings import settings_files
from tests.airflow_dags import DAG_IDS, MODELS, dag
from tests.airflow_home import ROOT

CATALOGUE = Catalogue(ROOT)
STAGES = list(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"])
JOBS = list(yaml.safe_load((ROOT / "jobs.yaml").read_text())["jobs"])


def works(dag_id: str) -> dict[str, list[Work]]:
    """Task to the stages or the job that it runs."""
    return {
        task.task_id: [CATALOGUE.find(name) for name in task.names]
        for task in dag(dag_id).tasks
        if hasattr(task, "names")
    }


@pytest.mark.parametrize("name", [*STAGES, *JOBS])
def test_it_can_be_read_and_its_script_is_there(name: str) -> None:
    work = CATALOGUE.find(name)
    python, script, *arguments = work.argv("2013-04")
    assert python == "python", f"{name}: start the command with `python`; another interpreter lacks what it needs"
    if script == "-m":
        assert importlib.util.find_spec(arguments[0]), f"{name}: there is no module {arguments[0]}"
        assert not work.window, f"{name}: a script path says in which workspace it is; a module is found anywhere"
    else:
        assert (ROOT / script).is_file(), f"{name}: there is no {script}"


def test_no_name_is_both_a_stage_and_a_job() -> None:
    assert not set(STAGES) & set(JOBS)


@pytest.mark.parametrize("name", [*STAGES, *JOBS])
def test_a_run_that_begins_with_it_knows_its_intervals(name: str) -> None:
    work = CATALOGUE.find(name)
    allowed = set(_WINDOWS) if work.stage or work.reads else {*_WINDOWS, ""}
    assert work.window in allowed, f"{name}: say in its meta which intervals its run needs: {', '.join(_WINDOWS)}"


@pytest.mark.parametrize("dag_id", DAG_IDS)
def test_all_of_a_dag_need_the_same_intervals(dag_id: str) -> None:
    """The first task opens the run for all: another window would be that of a run that nobody opened."""
    windows = {work.window for found in works(dag_id).values() for work in found if work.window}
    assert len(windows) <= 1, f"{dag_id}: {windows}; give them one window, or the task a DAG of its own"


@pytest.mark.parametrize("name", JOBS)
@pytest.mark.parametrize("model", MODELS)
def test_a_job_belongs_to_one_dag_of_a_model(model: str, name: str) -> None:
    dags = [dag_id for dag_id in DAG_IDS if dag_id.startswith(f"{model}.")]
    where = [dag_id for dag_id in dags for found in works(dag_id).values() if name in {work.name for work in found}]
    assert len(where) == 1, f"jobs.yaml, {name}: {where}"


@pytest.mark.parametrize("name", JOBS)
def test_what_a_job_reads_is_a_stage_s(name: str) -> None:
    for read in CATALOGUE.job(name).reads:
        stage = CATALOGUE.stage(read.split("@")[0])
        if "@" in read:
            assert stage.keyed and read == f"{stage.name}@{KEY}", f"{name}: write {stage.name}@{KEY} for one interval"


@pytest.mark.parametrize("dag_id", DAG_IDS)
def test_what_a_job_reads_was_made_before_it(dag_id: str) -> None:
    """By its own DAG; else it is of an interval that has landed."""
    landed = {"manifest", "ingest", "validate", "labels", "features"}
    for task, (work, *_) in works(dag_id).items():
        upstream = dag(dag_id).get_task(task).get_flat_relative_ids(upstream=True)
        made = {stage.name for before in upstream for stage in works(dag_id).get(before, [])}
        needed = {read.split("@")[0] for read in work.reads}
        assert needed <= made | (set() if dag_id.endswith(".ingest") else landed), (
            f"{dag_id}.{task} reads {needed - made}"
        )


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_is_tuned_by_settings_that_are_there(name: str) -> None:
    tune = CATALOGUE.stage(name).tune
    for setting in tune.get("when", []):
        value = settings_files.read(ROOT, MODELS[0])
        for part in setting.split("."):
            assert part in value, f"dvc.yaml, {name}: there is no setting {setting}"
            value = value[part]
    assert not tune or (ROOT / tune["cmd"].split()[1]).is_file()
