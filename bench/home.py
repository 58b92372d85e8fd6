"""A home of the bench's own, with real intervals landed, a model trained and put live: what all measurements share.

Made with the commands that Airflow's tasks run (dags/*.py), less Airflow. MLflow's registry is a file in it, and there is
no online service to reconcile.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.frame import Usage, run
from local.checks import MARKER
from local.env import environment
from tasks.registry import ledger
from tasks.running.catalogue import Catalogue
from tasks.settings.environment import CODE, landing
from tasks.settings.environment import environment as tasks_environment
from tasks.settings.environment import store as model_store
from tasks.spec import example
from tasks.storage.artefacts import Store

INTERVALS = ("2013-01", "2013-02", "2013-03", "2013-04")
LEARNT = INTERVALS[-2]
"""The model is trained on everything through this interval, and live from the next on."""
LAST = INTERVALS[-1]
"""The interval that is ingested, scored and monitored where one interval is measured."""
INGEST = (("stage", "manifest", "ingest"), ("stage", "validate"), ("stage", "labels", "features"), ("job", "publish"))
TRAIN = (
    ("stage", "golden"),
    ("stage", "train"),
    ("stage", "resolve"),
    ("stage", "evaluate"),
    ("stage", "gate"),
    ("job", "register"),
)
READY, ONCE = "bench-ready", "bench-once.json"


@dataclass(frozen=True)
class Home:
    """A prepared home; this process's environment names it."""

    folder: Path

    @property
    def store(self) -> Store:
        """Its artefact store."""
        return model_store()

    def workspace(self, run_key: str) -> Path:
        """Folder of a run."""
        return self.folder / "runs" / run_key

    def ingested(self, interval: str) -> Path:
        """The workspace that took ``interval`` in."""
        return self.workspace(f"ingest-{interval}")

    @property
    def trained(self) -> Path:
        """The workspace of the training."""
        return self.workspace(f"train-{LEARNT}")

    def once(self) -> dict[str, Usage]:
        """What the jobs took that were done once, while the home was made."""
        return {name: Usage(**figures) for name, figures in json.loads((self.folder / ONCE).read_text()).items()}

    def model(self) -> tuple[bytes, bytes, str]:
        """ONNX bytes, contract bytes and digest of the live model."""
        entry = ledger.live_at(ledger.Ledger(self.store).entries(), LAST)
        assert entry is not None and entry.evidence is not None  # prepared
        folder = f"models/{entry.evidence.model}"
        return self.store.read(f"{folder}/model.onnx"), self.store.read(f"{folder}/contract.json"), entry.evidence.model

    def call(self, action: str, names: Sequence[str], run_key: str, interval: str, **settings: object) -> Usage:
        """``python -m tasks.running`` as the operators in plugins/ call it."""
        argv = [sys.executable, "-m", "tasks.running", action, *names, "--run", run_key, "--first", interval]
        argv += [f"--set={name.replace('__', '.')}={value}" for name, value in settings.items()]
        return run(argv, CODE, {"PYTHONPATH": str(CODE), "AIRLOOP_RUN": run_key})

    def bare(self, stage: str, interval: str, workspace: Path) -> Usage:
        """The command of a stage or a job, in a workspace that has what it reads."""
        argv = Catalogue(CODE).find(stage).argv(interval)
        env = {"PYTHONPATH": str(workspace), "AIRLOOP_RUN": workspace.name}
        return run([sys.executable, *argv[1:]], workspace, env)


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Home]:
    """Let this process's environment name a home in ``folder``, and prepare it unless that was done before."""
    with bare_home(folder) as home:
        if not (folder / READY).exists():
            _prepare(home)
        yield home


@contextlib.contextmanager
def bare_home(folder: Path) -> Iterator[Home]:
    """Let this process's environment name a home in ``folder``, which may be empty."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in [n for n in os.environ if n.startswith(("AIRLOOP_", "AIRFLOW")) and n != "AIRLOOP_SOURCE"]:
        del os.environ[name]
    os.environ["AIRLOOP_HOME"] = str(folder)
    os.environ.update(environment())
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder / 'registry.db'}"
    os.environ["AIRLOOP_ONLINE_URL"] = os.environ["AIRLOOP_STUDIES"] = ""  # neither runs
    tasks_environment.cache_clear()
    yield Home(folder)


def _prepare(home: Home) -> None:
    (home.folder / MARKER).touch()  # so that services may be started in it
    zone = landing()
    feed = example()
    tables = feed.read(feed.source(), INTERVALS)
    for interval in INTERVALS:
        _say(f"{interval}: landing and the ingest DAG's commands")
        feed.land(interval, tables, zone)
        for action, *names in INGEST:
            home.call(action, names, f"ingest-{interval}", interval)
    if not ledger.Ledger(home.store).entries():
        _train(home)
    for job in ("score", "monitor"):
        _say(f"{LAST}: {job}")
        home.call("job", [job], f"{job}-{LAST}", LAST)
    (home.folder / READY).touch()


def _train(home: Home) -> None:
    """The train and deploy DAGs' commands; what can be done only once is measured here."""
    once = {}
    for action, *names in TRAIN:
        _say(f"{LEARNT}: {' '.join(names)}")
        once[names[-1]] = home.call(action, names, f"train-{LEARNT}", LEARNT)
    _say(f"{LEARNT}: deploy")
    command = [sys.executable, "-m", "tasks.deploy", "--interval", LEARNT]
    once["deploy"] = run(command, CODE, {"PYTHONPATH": str(CODE), "AIRLOOP_RUN": "bench"})
    figures = {name: dataclasses.asdict(once[name]) for name in ("register", "deploy")}
    (home.folder / ONCE).write_text(json.dumps(figures))


def forget(workspace: Path) -> None:
    """Delete a run's workspace."""
    shutil.rmtree(workspace, ignore_errors=True)


def _say(what: str) -> None:
    print(f"  preparing: {what}", file=sys.stderr, flush=True)
