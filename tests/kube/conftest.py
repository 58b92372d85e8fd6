"""A cluster, a project of one small stage, and Airflow's side of a task: the real operator, its real trigger."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import shutil
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from airflow.sdk.exceptions import TaskDeferred
from airloop import pod_watch
from airloop.pod_end import Patience
from airloop.stage import stage

from tasks.core.urls import url_of
from tasks.storage.artefacts import Store
from tests.airflow_home import use
from tests.kube.cluster import Cluster
from tests.plugins.conftest import FLIGHTS, make_context

use()
ROOT = Path(__file__).parents[2]
INTERVAL = "2013-01"
META = {"window": "lookback", "engine": "python", "cpu": 1, "memory": "1Gi", "spot": True, "timeout_minutes": 5}


@dataclass
class Project:
    """A checkout with this pipeline's tasks/, whose dvc.yaml has the one stage ``toy``."""

    root: Path
    store: Store

    def write(self, script: str) -> None:
        """What the stage does; it must write toy.txt. ``HOLD`` is replaced by a wait for `release`."""
        hold = f"while not Path({str(self.root / 'go')!r}).exists(): time.sleep(0.05)"
        lines = textwrap.dedent(script).replace("HOLD", hold)
        (self.root / "tasks/toy.py").write_text(f"import os, signal, sys, time\nfrom pathlib import Path\n{lines}\n")

    def release(self) -> None:
        """Let all that waits go on."""
        (self.root / "go").touch()

    def outputs(self) -> dict[str, str]:
        """Path to md5 of what was recorded of the stage, in the run's dvc.lock."""
        (name,) = [name for name in self.store.names("runs") if name.endswith("/dvc.lock")]
        entry = yaml.safe_load(self.store.read(name))["stages"]["toy"]
        return {out["path"]: out["md5"] for out in entry["outs"]}

    def usage(self) -> list[dict[str, Any]]:
        """What the pods used, in order."""
        return [self.store.read_json(name) for name in self.store.names("runs") if "/usage/" in name]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path / "cluster").running() as running:
        yield running


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: Cluster) -> Project:
    root = tmp_path / "checkout"
    for name in ("models", "tasks"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    toy = {"cmd": "python tasks/toy.py", "deps": ["tasks/toy.py"], "outs": ["toy.txt"], "meta": META}
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"toy": toy}}))
    for name in ("params.yaml", "jobs.yaml"):
        shutil.copy(ROOT / name, root)
    made = Project(root, Store(url_of(tmp_path / "store")).part("flights"))
    environ = {
        "AIRLOOP_PLACE": "cluster",
        "AIRLOOP_IMAGE": "registry.example/airloop-{role}:1",
        "AIRLOOP_NAMESPACE": "ml",
        "AIRLOOP_CODE": str(root),
        "AIRLOOP_HOME": str(tmp_path / "home"),
        "AIRLOOP_STORE": made.store.shared.url,
        "AIRLOOP_DVC_REMOTE": str(tmp_path / "remote"),
        "PYTHONPATH": str(root),
        "AIRFLOW_CONN_KUBERNETES_DEFAULT": cluster.connection,
    }
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(pod_watch, "POLL_SECONDS", 0.1)
    made.write("Path('toy.txt').write_text('made')")
    return made


class Task:
    """One try after the other of the task ``toy``, as Airflow makes them."""

    def __init__(self, *, deferrable: bool) -> None:
        self.deferrable = deferrable
        self.deferred = 0
        self.state: str | None = "running"
        """As Airflow's database has it; None when the run was deleted."""
        ti = SimpleNamespace(
            dag_id="flights.ingest",
            task_id="toy",
            run_id="manual__1",
            map_index=-1,
            try_number=1,
            start_date=None,
            xcom_push=lambda **_: None,
            get_task_states=self._states,
        )
        self.context = {
            **make_context("flights.ingest", partition_key=INTERVAL),
            "ti": ti,
            "task": SimpleNamespace(task_id="toy"),
        }
        self.operator: Any = None

    def _states(self, *, dag_id: str, task_ids: list[str], run_ids: list[str]) -> dict[str, dict[str, str]]:
        """As Airflow's API server answers; ConnectionError while `state` is "no answer"."""
        assert dag_id == "flights.ingest"
        if self.state == "no answer":
            raise ConnectionError("the API server is away")
        return {run: dict.fromkeys(task_ids, self.state) for run in run_ids} if self.state else {}

    def run(self, patience: Patience | None = None) -> dict[str, Any]:
        """A try; returns its result or raises as it does. Deferred, it goes on as often as its trigger fires."""
        self.context["ti"].start_date = dt.datetime.now(dt.UTC)
        operator = self.operator = self.new(patience)
        step = partial(operator.execute, self.context)
        while True:
            try:
                return dict(step())
            except TaskDeferred as error:
                self.deferred += 1
                event = asyncio.run(_first(error.trigger))
                operator = self.operator = self.new(patience)  # another process, which knows only what the event says
                step = partial(getattr(operator, error.method_name), self.context, event=event)

    def new(self, patience: Patience | None = None) -> Any:
        """The operator as a worker's process makes it."""
        operator: Any = stage(
            FLIGHTS, "toy", deferrable=self.deferrable, poll_interval=0.1, startup_check_interval_seconds=0.1
        )
        if patience is not None:
            operator.patience = patience
            operator.startup_timeout_seconds = 1
        operator.log_events_on_startup = False
        operator._get_ti_pod_labels = lambda *_, **__: {
            "dag_id": "flights.ingest",
            "task_id": "toy",
            "run_id": "manual__1",
            "kubernetes_pod_operator": "True",
            "try_number": "1",
        }
        return operator


async def _first(trigger: Any) -> dict[str, Any]:
    async with contextlib.aclosing(trigger.run()) as events:
        async for event in events:
            return dict(event.payload)
    raise AssertionError("the trigger ended without an event")


@pytest.fixture
def task(project: Project) -> Task:
    """A task whose worker watches the pod."""
    return Task(deferrable=False)


@pytest.fixture(params=[False, True], ids=["watched", "deferred"])
def either(request: pytest.FixtureRequest, project: Project) -> Task:
    """Such a task, and one whose pod the triggerer watches."""
    return Task(deferrable=request.param)
