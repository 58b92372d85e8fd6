"""The search: repeatable, resumable, blind to the days that judge, and no more than a help."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import yaml
from optuna.trial import TrialState

from local import postgres
from tasks import search as stage
from tasks.core.errors import AirloopError, ConfigError, DataError
from tasks.core.urls import url_of
from tasks.registry.mlflow_server import Server, trouble
from tasks.searching.folds import folds
from tasks.searching.study import FINISHED, Search, storage
from tasks.searching.trial import Judgement
from tasks.settings.environment import CODE, environment
from tasks.settings.search_params import FoldParams
from tasks.storage.artefacts import Store
from tasks.train import source
from tasks.training.ending import Ended
from tests.killing import kill_at_random, run_to_end
from tests.makers import WARMUP, Workspace
from tests.postgres import started

TRIALS = 6


@dataclass(frozen=True)
class Undisturbed:
    """A search that nobody killed."""

    home: Path
    run: Workspace
    seconds: float

    @property
    def trials(self) -> list[tuple]:
        return trials(self.home)


def workspace(root: Path) -> Workspace:
    made = Workspace(root, WARMUP, rows_a_day=12)
    made.raw["train"]["xgboost"] |= {"rounds": 20, "segment_rounds": 10}
    made.raw["train"]["search"] |= {"trials": TRIALS, "pruning": {"after_trials": 2, "after_share": 0.3}}
    made.save()
    return made


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return workspace(tmp_path_factory.mktemp("search") / "run")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Where studies are kept; MLflow is away, and what a test leaves in the environment is undone."""
    for name, value in AWAY.items():
        monkeypatch.setenv(name, value)

    def use(folder: str) -> Path:
        monkeypatch.setenv("AIRLOOP_HOME", str(tmp_path / folder))
        environment.cache_clear()
        return tmp_path / folder

    yield use
    environment.cache_clear()


def trials(home: Path) -> list[tuple]:
    """Every finished trial of the one study in ``home``: state, drawn values, losses by point, and the end's."""
    kept = storage(url_of(home / "studies.journal"))
    (name,) = optuna.get_all_study_names(kept)
    found = optuna.load_study(study_name=name, storage=kept).get_trials(states=FINISHED)
    return [(t.state, t.params, t.intermediate_values, t.value, t.user_attrs) for t in found]


def run(made: Workspace, **changes) -> dict:
    use = made.params.train
    use = use.model_copy(update={"search": use.search.model_copy(update=changes)})
    return stage.search("xgboost", source(made.params, made.root / "data/features"), use, None)


AWAY = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
COMMAND = [sys.executable, "-m", "tasks.search"]


@pytest.fixture(scope="module")
def undisturbed(made: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """The command as anybody runs it, once, to its end."""
    folder = tmp_path_factory.mktemp("undisturbed")
    twin = made.copy(folder / "run")
    seconds = run_to_end(COMMAND, twin.root, AWAY | {"PYTHONPATH": str(CODE), "AIRLOOP_HOME": str(folder)})
    return Undisturbed(folder, twin, seconds)


def test_present_settings_are_the_first_trial_and_the_best_is_chosen(made, undisturbed) -> None:
    found = undisturbed.trials
    now = made.params.train.xgboost.model_dump()
    assert len(found) == TRIALS
    assert found[0][1] == {name: now[name] for name in found[0][1]}
    assert {state for state, *_ in found} == {TrialState.COMPLETE, TrialState.PRUNED}, "the test needs both"


def test_a_budget_that_is_raised_goes_on_and_a_used_one_only_reads(made, home, undisturbed) -> None:
    folder = home("grown")
    run(made, trials=2)
    assert len(trials(folder)) == 2
    facts = run(made)
    assert trials(folder) == undisturbed.trials
    assert run(made) == facts
    values = [value for _, _, _, value, _ in trials(folder) if value is not None]
    assert (facts["trials"], facts["best"]["log_loss"]) == (TRIALS, min(values))
    assert facts["given_up"] == TRIALS - len(values)
    assert facts["gain"]["mean"] == pytest.approx(min(values) - values[0])


@pytest.mark.slow
def test_a_search_that_is_killed_loses_no_trial_and_counts_none_twice(made, home, tmp_path, undisturbed) -> None:
    folder, twin = home("killed"), made.copy(tmp_path / "run")
    env = AWAY | {"PYTHONPATH": str(CODE), "AIRLOOP_HOME": str(folder)}
    assert kill_at_random(COMMAND, twin.root, env, times=3, within=undisturbed.seconds, seed=20130406)
    run_to_end(COMMAND, twin.root, env)
    assert trials(folder) == undisturbed.trials
    assert twin.params == undisturbed.run.params


def poisoned(table: pa.Table, days) -> pa.Table:
    """``table`` with other labels, weather and carriers on these days."""
    rows = pa.array(days)
    flipped = pc.subtract(pa.scalar(1, pa.int8()), table["late"])
    for name, other in (("late", flipped), ("temp", pa.scalar(99.0)), ("carrier", pa.scalar("ZZ"))):
        changed = pc.if_else(rows, other, table[name])
        table = table.set_column(table.schema.get_field_index(name), name, changed)
    return table


@pytest.mark.parametrize(("remainder", "same"), [(2, True), (1, False)], ids=["days that judge", "days to learn from"])
def test_golden_and_decision_days_have_no_say(made, home, tmp_path, undisturbed, remainder, same) -> None:
    """Other labels and features on all held-out days, and every trial is the same to the last bit."""
    folder, twin = home("poisoned"), made.copy(tmp_path / "poisoned-run")
    for interval in WARMUP:
        table = twin.interval(interval)
        twin.put_interval(interval, poisoned(table, np.asarray(table["day"]) % 4 == remainder))
    count = TRIALS if same else 1
    run(twin, trials=count)
    assert (trials(folder) == undisturbed.trials[:count]) is same


def test_folds_learn_from_earlier_days_and_ask_about_later_ones(made) -> None:
    rows = source(made.params, made.root / "data/features")
    found = folds(rows, FoldParams(count=3, days=14))
    assert [f.days for f in found] == [(0, 76, 90), (0, 62, 76), (0, 48, 62)]
    for fold in found:
        learned = {*fold.past.table("train")["day"].to_pylist(), *fold.past.table("validation")["day"].to_pylist()}
        asked = set(fold.rows()["day"].to_pylist())
        _, border, end = fold.days
        assert max(learned) < border <= min(asked) and max(asked) < end
        assert not {day for day in learned | asked if day % 4 == 2}
        assert len(asked) == len([d for d in range(border, end) if d % 4 != 2])


def test_a_window_too_short_for_the_folds_is_a_sentence(made) -> None:
    with pytest.raises(DataError, match=r"90 days, too few for train.search.folds: 3 blocks of 30 days"):
        folds(source(made.params, made.root / "data/features"), FoldParams(count=3, days=30))


def test_a_trial_that_dies_each_time_ends_the_search(made, home) -> None:
    home("dying")

    def die(_settings, _told):
        raise MemoryError

    for _ in range(3):
        with pytest.raises(MemoryError):
            attempt(made, die)
    with pytest.raises(AirloopError, match=r"did not come to its end 3 times"):
        attempt(made, die)


def test_evictions_do_not_count_as_deaths(made, home) -> None:
    home("evicted")

    def evict(_settings, _told):
        raise Ended

    for _ in range(5):
        with pytest.raises(Ended):
            attempt(made, evict)
    assert len(attempt(made, lambda *_: Judgement([1], [0.5], [1])).trials) == TRIALS


def attempt(made, trial) -> Search:
    """One process's share of a search in this home."""
    search = Search("interrupted", "xgboost", made.params.train, environment().studies_url)
    search.run(trial, made.params.train.search, lambda: None)
    return search


def test_the_command_writes_what_it_chose_and_draws_it(made, undisturbed) -> None:
    kept = Store(url_of(undisturbed.home / "store")).part("flights")
    (name,) = [n for n in kept.names("searches") if n.endswith("search.json")]
    facts = json.loads(kept.read(name))
    now = undisturbed.run.params.train.xgboost
    assert now == made.params.train.xgboost.model_copy(update=facts["chosen"])
    assert now != made.params.train.xgboost
    page = kept.read(name.replace("search.json", "search.html")).decode()
    assert page.count('class="plotly-graph-div"') == 3


def test_without_mlflow_a_search_goes_on_and_says_so_once(made, home, capsys) -> None:
    folder = home("without")
    run(made, trials=2)
    assert len(trials(folder)) == 2
    assert capsys.readouterr().err.count("MLflow at http://127.0.0.1:9 takes no trials (it does not answer (") == 1


def test_without_a_budget_it_says_where_to_give_one(made, home, monkeypatch, tmp_path) -> None:
    home("off")
    twin = made.copy(tmp_path / "off-run")
    twin.raw["train"]["search"]["trials"] = 0
    twin.save()
    monkeypatch.chdir(twin.root)
    monkeypatch.setattr(sys, "argv", ["search.py"])
    with pytest.raises(ConfigError, match=r"no budget: set train.search.trials"):
        stage.main()


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"xgboost": {"depth": {"low": 1, "high": 2}}}, "names depth, which train.xgboost has not"),
        ({"forest": {}}, "names the family 'forest'"),
        ({"xgboost": {"eta": {"low": 0.2, "high": 0.1}}}, r"low=0.2 is not below high=0.1"),
        ({"xgboost": {"eta": {"low": 0.0, "high": 0.1, "log": True}}}, "has no logarithm"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused_when_params_are_read(made, tmp_path, space, message) -> None:
    twin = made.copy(tmp_path / "wrong")
    twin.raw["train"]["search"]["space"] = space
    twin.save()
    with pytest.raises(ConfigError, match=message):
        _ = twin.params


def test_half_a_line_that_a_full_disk_left_is_no_end_of_the_study(made, home) -> None:
    folder = home("half")
    run(made, trials=2)
    with (folder / "studies.journal").open("ab") as journal:
        journal.write(b'{"op_code":')
    run(made, trials=3)
    assert len(trials(folder)) == 3


def test_a_study_in_postgresql_is_the_same_as_one_in_a_file(made, home, monkeypatch, undisturbed) -> None:
    """As `airloop up` has it; where only the trials before are known, the second half draws what it would have drawn."""
    folder = home("database")
    with started(folder):
        postgres.make_databases(folder)
        monkeypatch.setenv("AIRLOOP_STUDIES", postgres.url(folder, "studies"))
        environment.cache_clear()
        run(made, trials=2)
        facts = run(made)
        found = optuna.load_study(study_name=facts["study"], storage=postgres.url(folder, "studies"))
        assert [t.params for t in found.get_trials(states=FINISHED)] == [params for _, params, *_ in undisturbed.trials]


def test_a_database_that_does_not_answer_is_a_sentence_without_its_password(made, home, monkeypatch) -> None:
    home("away")
    with pytest.raises(ConfigError, match=r"correct AIRLOOP_STUDIES") as found:
        Search("s", "xgboost", made.params.train, "postgresql+psycopg2://user:secret@127.0.0.1:9/studies")
    assert "secret" not in str(found.value)


@pytest.fixture
def mlflow_server(tmp_path: Path):
    """A real one, whose runs keep their files through it, as `airloop up` has it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path / "mlflow"
    folder.mkdir()
    argv = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    argv += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "files")]
    process = subprocess.Popen(
        argv,
        cwd=folder,
        env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    uri = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 180
        while trouble(uri) is not None:
            assert process.poll() is None and time.monotonic() < deadline, "mlflow server did not start"
            time.sleep(0.5)
        yield uri
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.slow
def test_mlflow_has_each_finished_trial_once_under_its_study(made, home, mlflow_server, monkeypatch, capsys) -> None:
    home("mlflow")
    run(made, trials=2)  # while MLflow is away
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    environment.cache_clear()
    run(made, trials=3)
    run(made, trials=4)
    assert capsys.readouterr().err.count("takes no trials") == 1
    server = Server(mlflow_server)
    asked = {"experiment_ids": [server.experiment("flights/search")], "max_results": 100}
    runs = [
        (
            r["info"],
            *({e["key"]: e["value"] for e in r["data"].get(kind, [])} for kind in ("tags", "params", "metrics")),
        )
        for r in server.post("runs/search", asked)["runs"]
    ]
    ((parent, *_),) = [r for r in runs if "airloop.trial" not in r[1]]
    nested = {r[1]["airloop.trial"]: r for r in runs if "airloop.trial" in r[1]}
    assert sorted(nested) == ["0", "1", "2", "3"] and len(runs) == 5
    assert {tags["mlflow.parentRunId"] for _, tags, *_ in nested.values()} == {parent["run_id"]}
    assert {info["status"] for info, *_ in runs} == {"FINISHED"}
    _, _, params, metrics = nested["0"]
    assert float(params["eta"]) == made.params.train.xgboost.eta and metrics["log_loss"] > 0
    files = server.get("artifacts/list", run_id=parent["run_id"])["files"]
    assert {file["path"] for file in files} == {"search.html", "search.json"}
    assert all(int(file["file_size"]) > 100 for file in files)


def test_writing_settings_keeps_every_other_byte(tmp_path) -> None:
    from tasks.settings.settings_files import put

    file, before = tmp_path / "params.yaml", (CODE / "models/flights/params.yaml").read_text()
    file.write_text(before)
    changes = put(file, {"train.xgboost.eta": 1e-5, "train.checkpoint.steps": 7, "golden.digest": None})
    after = file.read_text()
    assert len(changes) == 3 and "train.xgboost.eta: 0.05 -> 1.0e-05" in changes
    assert yaml.safe_load(after)["train"]["xgboost"]["eta"] == 1e-5
    different = [(a, b) for a, b in zip(before.splitlines(), after.splitlines(), strict=True) if a != b]
    assert [b.strip()[:19] for _, b in different] == ["digest: null # pinn", "checkpoint: {steps:", "eta: 1.0e-05"]
    assert all(a.partition(" #")[2] == b.partition(" #")[2] for a, b in different), "comments stay"
    assert put(file, {"train.xgboost.eta": 1e-5}) == []
    with pytest.raises(ConfigError, match=r"no setting train.forest.trees"):
        put(file, {"train.forest.trees": 1})
