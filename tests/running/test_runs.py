"""Runs that begin on one machine and go on on another, as pods and workers do."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tasks.core.urls import url_of
from tasks.landing import landed
from tasks.running import command, lease, spans, stage_run
from tasks.running.catalogue import Catalogue
from tasks.running.runs import Request, Run, Span, open_run, read_run, save_record
from tasks.running.workspace import Workspace, opened
from tasks.settings import params, settings_files
from tasks.settings.code import tree_digest
from tasks.settings.environment import CODE, environment
from tasks.settings.settings_files import of_model, put
from tasks.storage.artefacts import Store
from tasks.versioning.lock_file import LOCK, parse_lock, read_lock, write_lock
from tasks.versioning.new_project import DVC_RUNNING

KEY, INTERVAL = "ingest-2013-01-12345678", "2013-01"
SPAN = Span("flights", INTERVAL, INTERVAL)
OWN = of_model("flights")


class Machines:
    """Several machines, one store, one checkout."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.checkout = folder / "checkout"
        for name in ("models", "tasks"):
            shutil.copytree(CODE / name, self.checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("dvc.yaml", "jobs.yaml", "params.yaml"):
            shutil.copy(CODE / name, self.checkout)
        self.store = Store(url_of(folder / "store"))
        self._folder, self._patch = folder, monkeypatch

    def open(
        self, machine: str, *, begins: bool = False, reason: str = "", exploratory: bool = False, **overrides: object
    ) -> Path:
        """The run's workspace on ``machine``."""
        self.use(machine)
        return open_run(Request(KEY, SPAN, "lookback", overrides, reason, exploratory), self.store, begins=begins)

    def use(self, machine: str) -> None:
        """Let this process be on ``machine``."""
        self._patch.setenv("AIRLOOP_HOME", str(self._folder / machine))
        self._patch.setenv("AIRLOOP_CODE", str(self.checkout))
        environment.cache_clear()

    def change_code(self) -> None:
        (self.checkout / "tasks/new.py").write_text("NEW = True\n")


@pytest.fixture
def machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machines:
    return Machines(tmp_path, monkeypatch)


def test_a_run_goes_on_elsewhere_with_its_own_code_and_settings(machines: Machines) -> None:
    first = machines.open("a", begins=True, **{"train.seed": 5})
    machines.change_code()
    second = machines.open("b")
    assert first != second
    for name in settings_files.recorded("flights"):
        assert (second / name).read_bytes() == (first / name).read_bytes()
    assert b"seed: 5" in (second / OWN).read_bytes()
    assert tree_digest(second, "flights") == tree_digest(first, "flights") == read_run(second).code.tree
    assert not (second / "tasks/new.py").exists()


def test_what_one_machine_records_the_others_know(machines: Machines) -> None:
    a, b = machines.open("a", begins=True), machines.open("b")
    for root, stage in ((a, "one@2013-01"), (b, "two@2013-01")):
        write_lock(root, {**read_lock(root), stage: {"cmd": stage}})
        save_record(root, machines.store, [stage])
    for machine in "abc":
        assert set(read_lock(machines.open(machine))) == {"one@2013-01", "two@2013-01"}


@pytest.mark.parametrize(
    ("together", "stale", "found"),
    [
        (1, "", ["2013-01", "2013-03"]),
        (2, "", ["2013-01", "2013-02", "2013-03"]),
        (
            2,
            "2013-02",
            ["2013-01", "2013-03"],
        ),  # a correction is on its way through: it is no reason to refuse this one
    ],
)
def test_a_run_that_watches_has_the_intervals_that_are_judged_with_its_own(
    machines: Machines, together: int, stale: str, found: list[str]
) -> None:
    for number, interval in enumerate(three := ["2013-01", "2013-02", "2013-03"]):
        previous = three[max(number - 1, 0)]
        lock = {
            f"validate@{interval}": {"outs": [{"path": f"data/tail/{interval}", "md5": "tail"}]},
            f"labels@{interval}": {"outs": [{"path": f"data/labels/{interval}.parquet", "md5": "labels"}]},
            f"features@{interval}": {
                "deps": [{"path": f"data/tail/{previous}", "md5": "old" if interval == stale else "tail"}],
                "outs": [],
            },
        }
        landed.write(
            machines.store,
            landed.Landed(interval=interval, previous=previous, run="r", manifest="m", features="f", counts={}, lock=lock, state={}),
        )  # fmt: skip
    machines.use("a")
    settings = {"golden.intervals": ["2013-01"], "monitor.window_intervals": together}
    root = open_run(
        Request(KEY, Span("flights", "2013-03", "2013-03"), "reference", settings, exploratory=True),
        machines.store,
        begins=True,
    )
    assert sorted(settings_files.read_run(root)["intervals"]) == found


def test_what_was_asked_for_and_why_is_kept(machines: Machines) -> None:
    machines.open("a", begins=True, reason="new data", **{"train.seed": 5})
    kept = read_run(machines.open("b"))
    assert (kept.model, kept.first, kept.last, kept.window) == ("flights", INTERVAL, INTERVAL, "lookback")
    assert (kept.reason, kept.overrides) == ("new data", {"train.seed": 5})


def test_a_record_of_an_older_version_is_read(machines: Machines) -> None:
    """It names the DAG and one month, and is replayed by `tasks/rebuild.py` years later."""
    made = read_run(machines.open("a", begins=True)).model_dump()
    older = {name: made[name] for name in ("opened", "key", "overrides", "code")} | {
        "dag": "ingest",
        "month": INTERVAL,
    }
    run = Run.model_validate(older)
    assert (run.model, run.first, run.last, run.window) == ("flights", INTERVAL, INTERVAL, "")


def test_a_run_that_begins_again_forgets_what_it_was(machines: Machines) -> None:
    """As a cleared run does: with the present code, and nothing of the former one anywhere."""
    for machine in "ab":
        root = machines.open(machine, begins=machine == "a")
        (root / "data").mkdir(exist_ok=True)
        (root / "data/old").touch()
    machines.change_code()
    a = machines.open("a", begins=True)
    b = machines.open("b")
    for root in (a, b):
        assert (root / "tasks/new.py").exists() and not (root / "data/old").exists()
    assert read_run(a) == read_run(b)


def test_a_later_task_finds_its_workspace_as_it_was_left(machines: Machines) -> None:
    root = machines.open("a", begins=True)
    (root / "data").mkdir()
    (root / "data/made").touch()
    assert (machines.open("a") / "data/made").exists()


def test_a_beginning_that_was_killed_is_made_whole(machines: Machines) -> None:
    root = machines.open("a", begins=True)
    (root / "run.json").unlink()
    (root / OWN).write_text("half made")
    again = machines.open("a")
    assert b"half made" not in (again / OWN).read_bytes() and read_run(again).key == KEY


def test_settings_that_a_search_chose_on_one_machine_are_the_run_s_on_all(machines: Machines) -> None:
    a = machines.open("a", begins=True)
    machines.open("b")
    put(a / OWN, {"train.xgboost.eta": 0.123})
    save_record(a, machines.store, [])
    for machine in "abc":
        assert params.load(machines.open(machine)).train.xgboost.eta == 0.123
    assert b"0.123" not in (machines.open("b", begins=True) / OWN).read_bytes()


@pytest.mark.parametrize(("stage", "trials", "searched"), [("train", 0, []), ("golden", 5, []), ("train", 5, [1])])
def test_only_a_training_with_a_budget_is_searched_for(
    machines: Machines, monkeypatch, stage, trials, searched
) -> None:
    """What it costs when it is off is to read the settings."""
    root = machines.open("a", begins=True, **{"train.search.trials": trials})
    monkeypatch.setattr(stage_run.StageRun, "fetch", lambda self: None)
    asked = []

    def search(argv: list[str]) -> None:
        asked.append(argv)
        put(root / OWN, {"train.xgboost.eta": 0.123})

    monkeypatch.setattr(command, "run", search)
    workspace = Workspace(root, KEY, SPAN, machines.store, lease.Attempt(machines.store, KEY))
    spans._tune(workspace, Catalogue(root).stage(stage), INTERVAL)
    assert asked == [["python", "tasks/search.py"] for _ in searched]
    assert (b"0.123" in machines.store.read(f"runs/{KEY}/{OWN}")) is bool(searched)


def test_the_newest_try_records_and_an_earlier_one_on_another_machine_does_not(machines: Machines) -> None:
    """As of a worker that was cut off and given up, and works on."""
    request = Request(KEY, SPAN, "lookback")
    machines.use("a")
    with opened(request, machines.store, begins=True) as cut_off:
        machines.use("b")
        with opened(request, machines.store) as newest:
            newest._attempt.require()
        with pytest.raises(lease.Superseded, match="Another try of this task took the run over"):
            cut_off._attempt.require()


def test_a_try_that_was_superseded_takes_nothing_out_of_the_other_one_s_record(machines: Machines) -> None:
    """Its own stage has failed by being superseded; what the run has of it is the other one's."""
    request, work = Request(KEY, SPAN, "lookback"), Catalogue(CODE).stage("validate")
    item = work.item(INTERVAL)
    machines.use("a")
    with opened(request, machines.store, begins=True) as cut_off:
        machines.use("b")
        with opened(request, machines.store) as newest:
            write_lock(newest.root, {**read_lock(newest.root), item: {"cmd": "made by the newest"}})
            save_record(newest.root, machines.store, [item])
        with pytest.raises(lease.Superseded):
            cut_off.forget(work, [INTERVAL])
        ends = spans.Ends([INTERVAL, "2013-09"])
        with pytest.raises(lease.Superseded):
            ends.attempt(INTERVAL, lambda _: cut_off._attempt.require())
        assert ends.intervals == {}
    assert item in parse_lock(machines.store.read(f"runs/{KEY}/dvc.lock"))


def test_one_that_helps_a_try_supersedes_nobody(machines: Machines) -> None:
    """As the other pods of a training on several machines, which open the run after the one that records."""
    request = Request(KEY, SPAN, "lookback")
    machines.use("a")
    with opened(request, machines.store, begins=True) as recording:
        machines.use("b")
        with opened(request, machines.store, helps=True):
            recording._attempt.require()


@pytest.mark.parametrize("left", [0, 10, 60, -5])
def test_a_kill_while_dvc_wrote_its_files_costs_only_what_was_not_recorded(machines: Machines, left: int) -> None:
    """DVC writes dvc.lock and its list of running processes in place: half a file may be what a killed task leaves."""
    root = machines.open("a", begins=True)
    write_lock(root, {"one@2013-01": {"cmd": "one"}})
    save_record(root, machines.store, ["one@2013-01"])
    write_lock(root, {**read_lock(root), "two@2013-01": {"cmd": "two", "deps": [{"path": "p", "md5": "m"}]}})
    (root / LOCK).write_bytes((root / LOCK).read_bytes()[:left])
    running = root / DVC_RUNNING
    running.parent.mkdir(parents=True)
    running.write_text('{"write": {"')
    assert read_lock(machines.open("a")) == {"one@2013-01": {"cmd": "one"}}
    assert not running.exists(), "DVC refuses a project whose list it cannot read"
