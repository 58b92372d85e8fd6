"""House rules of Airflow's side. Each message says what to do."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml
from airloop.model import find

from tests.airflow_dags import DAG_IDS, MODELS, NAMES, dag
from tests.airflow_home import ROOT, variables

HEAVY = (
    "apprise", "dvc", "evidently", "mlflow", "numpy", "onnxruntime", "pandas", "pyarrow", "pyspark", "sklearn", "torch", "xgboost",
)  # fmt: skip
SPARK_OPERATOR = "airflow.providers.apache.spark.operators.spark_submit"
POD_OPERATOR = "airflow.providers.cncf.kubernetes.operators.pod"
ROOMS = {"tasks", "tasks.core", "tasks.intervals", "tasks.running", "tasks.storage"}
LIGHT_OF_TASKS = {
    *ROOMS, "tasks.core.errors", "tasks.core.fast_yaml", "tasks.core.full_disk", "tasks.storage.lists", "tasks.intervals.cadence", "tasks.core.model_names", "tasks.core.results",
    "tasks.running.catalogue", "tasks.running.variables",
}  # fmt: skip
"""What Airflow's side shares with the stages: the result document, the catalogue, and names. All else is imported when it is used."""
WATCHED = [*HEAVY, SPARK_OPERATOR, POD_OPERATOR, "kubernetes"]
ALLOWED_IN_DAGS = {"__future__", "airflow", "airloop", "collections", "datetime", "typing"}
MAX_LINES = 80


PARSE = """
import json, os, runpy, sys
sys.path.insert(0, "plugins")
import airflow.sdk
for name in ("dag", "task", "chain", "Asset", "BaseOperator", "Param"):
    getattr(airflow.sdk, name)
for name, environ in json.loads(sys.argv[1]):
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.environ.update(environ)
        runpy.run_path(f"dags/{name}.py")
        watched = [m for m in sys.modules if m in json.loads(sys.argv[2]) or m.split(".")[0] == "tasks"]
        os.write(writer, json.dumps(watched).encode())
        os._exit(0)
    os.close(writer)
    print(os.read(reader, 65536).decode(), flush=True)
"""
"""Airflow parses a file in a fork of a process that has loaded its own SDK; so does this."""

CLUSTER = {"AIRLOOP_PLACE": "cluster", "AIRLOOP_IMAGE": "airloop:1"}
ONLY_PUBLISH = {"_AIRFLOW_PARSING_CONTEXT_DAG_ID": "flights.ingest", "_AIRFLOW_PARSING_CONTEXT_TASK_ID": "publish"}


def parsed_modules(*cases: tuple[str, dict[str, str]]) -> list[set[str]]:
    """For each DAG file and environment, what of WATCHED and of tasks/ is loaded after parsing it."""
    with tempfile.TemporaryDirectory() as home:
        env = {
            **{k: v for k, v in os.environ.items() if not k.startswith("AIRLOOP_")},
            **variables(home),
            "PYTHONPATH": "",
        }
        argv = [sys.executable, "-c", PARSE, json.dumps(cases), json.dumps(WATCHED)]
        done = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    return [set(json.loads(line)) for line in done.stdout.splitlines()]


def stage_tasks(dag_id: str) -> dict[str, list[str]]:
    """Task to the stages of dvc.yaml that it runs, in order."""
    return {t.task_id: list(t.names) for t in dag(dag_id).tasks if getattr(t, "action", None) == "stage"}


def upstream_stages() -> dict[str, set[str]]:
    """Stage of dvc.yaml to the stages whose outputs it reads, for an interval whose look-back sees its own tail."""
    definitions = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    bodies = {name: body.get("do", body) for name, body in definitions.items()}

    def paths(body: dict, key: str) -> set[str]:
        named = [next(iter(item)) if isinstance(item, dict) else item for item in body.get(key, [])]
        return {path.replace("${key}", "M").replace("${item.sees}", "data/lists/lookback/M.json") for path in named}

    def overlap(one: str, other: str) -> bool:
        return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")

    return {
        name: {
            other
            for other, producer in bodies.items()
            if other != name
            and any(overlap(dep, out) for dep in paths(body, "deps") for out in paths(producer, "outs"))
        }
        for name, body in bodies.items()
    }


@pytest.mark.parametrize("dag_id", DAG_IDS)
def test_dag_order_is_the_stages_order(dag_id: str) -> None:
    reads = upstream_stages()
    where = {stage: task for task, stages in stage_tasks(dag_id).items() for stage in stages}
    for stage, task in where.items():
        for needed in reads[stage] & set(where):
            if where[needed] == task:
                order = stage_tasks(dag_id)[task]
                assert order.index(needed) < order.index(stage), f"{dag_id}.{task}: put {needed} before {stage}"
            else:
                before = dag(dag_id).get_task(task).get_flat_relative_ids(upstream=True)
                assert where[needed] in before, (
                    f"{dag_id}: {stage} reads what {needed} writes; draw {where[needed]} >> {task}"
                )


@pytest.mark.parametrize("model", MODELS)
def test_every_stage_of_dvc_yaml_is_run_by_exactly_one_dag_of_a_model(model: str) -> None:
    run = [
        stage
        for name in NAMES
        for dag_id in [f"{model}.{name}"]
        for stages in stage_tasks(dag_id).values()
        for stage in stages
    ]
    assert sorted(run) == sorted(upstream_stages()), "each stage of dvc.yaml belongs to one task of one DAG"


@pytest.mark.parametrize("dag_id", DAG_IDS)
def test_stages_of_a_run_share_a_workspace_so_they_follow_each_other(dag_id: str) -> None:
    tasks = list(stage_tasks(dag_id))
    for index, one in enumerate(tasks):
        for other in tasks[index + 1 :]:
            related = dag(dag_id).get_task(one).get_flat_relative_ids(upstream=False) | dag(dag_id).get_task(
                one
            ).get_flat_relative_ids(upstream=True)
            assert other in related, f"{dag_id}: {one} and {other} could run at once in one workspace; chain them"


@pytest.mark.parametrize("dag_id", DAG_IDS)
def test_every_task_has_the_house_s_defaults(dag_id: str) -> None:
    for task in dag(dag_id).tasks:
        name = f"{dag_id}.{task.task_id}"
        assert task.execution_timeout, f"{name}: set execution_timeout (see DEFAULT_ARGS)"
        assert task.owner == find(dag_id.partition(".")[0]).owner, f"{name}: make its DAG with house_dag"
        assert task.retries >= 1, f"{name}: set retries (see DEFAULT_ARGS); a refusal is not retried anyway"
        assert task.on_failure_callback, f"{name}: set on_failure_callback (see DEFAULT_ARGS)"
        assert task.pool == "default_pool", f"{name}: a pool that nobody creates leaves the task waiting for ever"


@pytest.mark.parametrize("dag_id", DAG_IDS)
def test_every_dag_explains_itself(dag_id: str) -> None:
    found = dag(dag_id)
    assert found.doc_md and found.doc_md.strip().startswith("###"), (
        f"{dag_id}: give the file a docstring, and it to house_dag"
    )
    assert found.description, f"{dag_id}: set description"
    assert "airloop" in found.tags, f"{dag_id}: set tags"
    assert found.catchup is False, f"{dag_id}: set catchup=False"
    found.params.validate()  # house_dag sets them last, where Airflow does not look at them
    for name, param in found.params.items():
        schema = found.params.get_param(name).schema
        assert schema.get("title") and found.params.get_param(name).description, (
            f"{dag_id}: give param {name} title and description"
        )
        del param


@pytest.mark.parametrize("path", sorted((ROOT / "dags").glob("*.py")), ids=lambda path: path.name)
def test_a_dag_file_is_arrows(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= MAX_LINES, (
        f"{path.name}: a DAG file has at most {MAX_LINES} lines; move code to plugins/airloop"
    )
    for node in ast.walk(ast.parse(text)):
        names = (
            [a.name for a in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
        for name in names:
            assert name.split(".")[0] in ALLOWED_IN_DAGS, (
                f"{path.name} imports {name}: a DAG imports airloop and airflow only"
            )


def test_parsing_loads_nothing_heavy_and_no_operator_that_is_not_needed() -> None:
    train, deploy, monitor, ingest, only_publish, in_a_cluster = parsed_modules(
        ("train", {}), ("deploy", {}), ("monitor", {}), ("ingest", {}), ("ingest", ONLY_PUBLISH), ("train", CLUSTER)
    )
    assert train | deploy | monitor <= LIGHT_OF_TASKS, "these use neither Spark nor pods, and nothing heavy"
    assert SPARK_OPERATOR in ingest and ingest <= {*LIGHT_OF_TASKS, SPARK_OPERATOR, "kubernetes"}
    assert only_publish <= LIGHT_OF_TASKS, "while publish is about to run, the Spark operator of features is not needed"
    assert POD_OPERATOR in in_a_cluster and in_a_cluster <= {*LIGHT_OF_TASKS, POD_OPERATOR, "kubernetes"}


@pytest.mark.parametrize("module", sorted(LIGHT_OF_TASKS))
def test_what_airflow_s_side_shares_with_the_stages_needs_nothing_but_yaml(module: str) -> None:
    script = f"import sys; before = set(sys.modules); import {module}; print(*(set(sys.modules) - before))"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    # Of yaml's own C part, and of sysconfig, which zoneinfo asks where time zones are.
    roots = {
        name.split(".")[0]
        for name in done.stdout.split()
        if not name.startswith("_sysconfigdata") and "cython" not in name
    }
    assert roots - set(sys.stdlib_module_names) <= {"tasks", "yaml", "_yaml"}


def test_plugins_import_of_tasks_at_their_top_only_what_is_light() -> None:
    """Airflow imports a plugin's files in each of its processes; pages and metrics are for the API server alone."""
    api_server_only = {"pages", "metrics", "metrics_of_airflow", "metrics_of_store"}
    found = {
        f"{path.name}: {name}"
        for path in (ROOT / "plugins/airloop").glob("*.py")
        if path.stem not in api_server_only
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ImportFrom)
        for name in [node.module or ""]
        if name.split(".")[0] == "tasks" and not _is_light(name, [alias.name for alias in node.names])
    }
    assert not found, "import it in the function that uses it"


def test_plugins_reach_records_by_their_model_alone() -> None:
    """`store_of` says where a model's records are; nothing else in plugins/ may."""
    found = [
        path.name
        for path in (ROOT / "plugins/airloop").glob("*.py")
        if "tasks.settings.environment" in path.read_text()
    ]
    assert found == ["stores.py"], "use airloop.stores.store_of(model)"


@pytest.mark.parametrize(
    "path", sorted([*(ROOT / "plugins").rglob("*.py"), *(ROOT / "dags").glob("*.py")]), ids=lambda path: path.name
)
def test_no_model_is_named_in_what_airflow_imports(path: Path) -> None:
    """In code: a docstring or a remark may have one as its example."""
    words = {
        node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)
    } - _docstrings(path)
    assert not [word for word in words if isinstance(word, str) and any(model in word for model in MODELS)]


def _docstrings(path: Path) -> set[str]:
    """Texts that stand by themselves."""
    nodes = [node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Expr)]
    return {str(node.value) for node in nodes if isinstance(node, ast.Constant)}


def _is_light(module: str, names: list[str]) -> bool:
    return module in LIGHT_OF_TASKS and (module not in ROOMS or all(
        f"{module}.{name}" in LIGHT_OF_TASKS for name in names
    ))  # fmt: skip


def test_airflow_loads_one_plugin_and_none_of_the_package_s_files() -> None:
    script = (
        "import json, sys; sys.path.insert(0, 'plugins')\n"
        "from airflow._shared.plugins_manager import _load_plugins_from_plugin_directory as load\n"
        "plugins, errors = load('plugins', ignore_file_syntax='glob')\n"
        "print(json.dumps([[p.name for p in plugins], errors, sorted(sys.modules)]))"
    )
    with tempfile.TemporaryDirectory() as home:
        env = {**os.environ, **variables(home), "PYTHONPATH": ""}
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, env=env, capture_output=True, text=True, check=True
        )
    names, errors, loaded = json.loads(done.stdout.splitlines()[-1])
    assert (names, errors) == (["airloop"], {})
    package = {path.stem for path in (ROOT / "plugins/airloop").glob("*.py")} - {"__init__"}
    assert not package & set(loaded), (
        "plugins/.airflowignore must keep Airflow from loading the package's files by their stems"
    )
    assert "airloop.pages" not in loaded, "the page is for the api-server; other processes must not pay for it"
