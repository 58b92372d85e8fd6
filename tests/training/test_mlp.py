"""The family mlp: the same bytes again, ONNX that says what PyTorch says, nothing extrapolated, and sentences where it cannot run."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

from models.flights.definitions import FEATURES
from tasks import train as stage
from tasks.core.errors import AirloopError, ConfigError, Unavailable
from tasks.core.results import EXIT_CODES, Status
from tasks.core.urls import url_of
from tasks.modelling import model as models
from tasks.modelling.stats import metrics
from tasks.settings.environment import CODE
from tasks.settings.training_params import TrainParams
from tasks.settings.value_types import DayRule
from tasks.storage.artefacts import Store, sha256, to_json
from tasks.training.checkpoints import Checkpoints
from tasks.training.ending import Ended, Ending
from tasks.training.families import mlp as family
from tasks.training.family import Job
from tasks.training.neural import launch, worker
from tasks.training.neural.loop import schedule
from tasks.training.neural.preparation import prepare
from tasks.training.progress import Progress
from tasks.training.source import Source
from tests import makers

HOLDOUT = DayRule(every=4, remainder=2)


def settings(mlp=None, **changes) -> TrainParams:
    raw = makers.settings()["train"]
    return TrainParams.model_validate(raw | {"family": "mlp"} | changes | {"mlp": raw["mlp"] | (mlp or {})})


@pytest.fixture(scope="module")
def source_of(tmp_path_factory: pytest.TempPathFactory):
    """Puts feature rows where a training reads them, in row groups of which several make a window."""

    def put(table: pa.Table) -> Source:
        return makers.source(table, tmp_path_factory.mktemp("features"), row_group_size=700)

    return put


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return pa.concat_tables([makers.features(interval) for interval in ("2013-01", "2013-02")])


@pytest.fixture(scope="module")
def trained(table: pa.Table, source_of) -> stage.Trained:
    return stage.train(source_of(table), settings())


@pytest.fixture(scope="module")
def model(trained: stage.Trained) -> models.Model:
    return models.load(trained.onnx, trained.contract, sha256(trained.onnx))


def put(table: pa.Table, name: str, values) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), name, values)


def test_the_same_rows_give_the_same_bytes(table: pa.Table, trained: stage.Trained, source_of) -> None:
    assert stage.train(source_of(table), settings()) == trained


def test_another_seed_is_another_model(table: pa.Table, trained: stage.Trained, source_of) -> None:
    assert stage.train(source_of(table), settings(seed=8)).onnx != trained.onnx


def test_it_learns(table: pa.Table, model: models.Model) -> None:
    """Days it never saw, of the interval it learned from: chance is 0.5, and a constant has the entropy of the base rate."""
    known = table.filter(pc.is_valid(table["late"]))
    unseen = known.filter(pa.array(np.asarray(known["day"]) % 4 == 2))
    found = metrics(unseen["late"].to_numpy(), model.score(unseen), 10)
    base = np.asarray(known["late"]).mean()
    assert found["auc"] > 0.6
    assert found["log_loss"] < -(base * np.log(base) + (1 - base) * np.log(1 - base))


def test_held_out_days_teach_nothing(table: pa.Table, trained: stage.Trained, source_of) -> None:
    """Not their labels, not where their numbers lie, not their categories."""
    out = pa.array(np.asarray(table["day"]) % 4 == 2)
    changed = put(table, "late", pc.if_else(out, pc.subtract(pa.scalar(1, pa.int8()), table["late"]), table["late"]))
    for name, other in (("visib", pa.scalar(99.0)), ("carrier", pa.scalar("ZZ"))):
        changed = put(changed, name, pc.if_else(out, other, changed[name]))
    again = stage.train(source_of(changed), settings())
    assert (again.onnx, again.contract, again.native) == (trained.onnx, trained.contract, trained.native)


def strange(table: pa.Table, contract: models.Contract) -> np.ndarray:
    """Rows as they are, with categories unknown and null, all null, and with numbers that nothing should come to."""
    odd = put(table.slice(0, 500), "carrier", pa.array(["ZZ", None] * 250, pa.string()))
    numbers = [i for i, f in enumerate(contract.features) if f.categories is None]
    wild = contract.encode(table.slice(0, 4))
    wild[:, numbers] = np.array([[np.inf], [-np.inf], [3e38], [-3e38]], np.float32)
    nulls = np.full((1, len(FEATURES)), np.nan, np.float32)
    return np.concatenate([contract.encode(table), contract.encode(odd), wild, nulls])


def test_onnx_says_what_pytorch_says_whatever_comes(
    table: pa.Table, trained: stage.Trained, model: models.Model
) -> None:
    x = strange(table, model.contract)
    own, onnx = family.predict(trained.native, x), model.predict(x)
    assert np.isfinite(onnx).all()
    assert np.abs(own - onnx).max() < 1e-6


def test_a_row_scores_alike_alone_and_in_any_batch(table: pa.Table, model: models.Model) -> None:
    rows = table.slice(0, 400)
    together = model.score(rows)
    alone = [model.predict(model.contract.encode_rows([row])) for row in rows.to_pylist()]
    assert np.concatenate(alone).tobytes() == together.tobytes()
    for size in (2, 3, 7, 64, 333):
        parts = [model.score(rows.slice(start, size)) for start in range(0, len(rows), size)]
        assert np.concatenate(parts).tobytes() == together.tobytes()


def test_a_season_that_it_has_not_seen_is_the_edge_of_what_it_has(table: pa.Table, model: models.Model) -> None:
    """A number beyond the training range is that range's end; what is left out says nothing at all."""
    edge = max(v for v in table.filter(pa.array(np.asarray(table["day"]) % 4 != 2))["wind_speed"].to_pylist())
    far = put(table, "wind_speed", pa.array([1000.0] * len(table)))
    assert (model.score(far) == model.score(put(table, "wind_speed", pa.array([edge] * len(table))))).all()
    assert (model.score(put(table, "temp", pa.array([1000.0] * len(table)))) == model.score(table)).all()
    assert (model.score(far) != model.score(table)).mean() > 0.9


def test_where_numbers_lie_is_measured_over_batches_as_at_once(table: pa.Table, source_of) -> None:
    source = source_of(table)
    found = prepare(source, source.contract(), ("temp",), spread=3.0)
    rows = source.table("train")
    names = [FEATURES[i] for i in found.numbers]
    assert "temp" not in names and "carrier" not in names
    for at, name in enumerate(names):
        x = np.array([np.nan if v is None else v for v in rows[name].to_pylist()], np.float32).astype(np.float64)
        mean, sd = np.nanmean(x), np.nanstd(x)
        assert found.mean[at] == pytest.approx(mean, rel=1e-5)
        assert 1 / found.scale[at] == pytest.approx(sd or 1, rel=1e-4)
        assert found.low[at] == pytest.approx(max(np.nanmin(x), mean - 3 * sd), rel=1e-4, abs=1e-4)
        assert found.high[at] == pytest.approx(min(np.nanmax(x), mean + 3 * sd), rel=1e-4, abs=1e-4)
        assert (at in found.missing) == bool(np.isnan(x).any())


def test_contract_metrics_and_weights_say_what_was_learned(trained: stage.Trained, model: models.Model) -> None:
    facts = json.loads(trained.metrics)
    assert model.contract.names == FEATURES
    assert facts["family"] == "mlp"
    assert facts["validation_log_loss"] <= min(facts["validation_losses"]) + 1e-9  # calibration never makes it worse
    assert facts["train_losses"][-1] < facts["train_losses"][0]
    assert facts["steps"] == len(facts["validation_losses"]) * -(-facts["rows"]["train"] // 64)
    assert trained.native_name == "native.safetensors"
    assert b"pickle" not in trained.native and b"airloop" in trained.native[:4000]


def test_it_stops_when_the_validation_days_no_longer_gain(table: pa.Table, source_of) -> None:
    own = {"epochs": 60, "early_stopping_epochs": 2, "learning_rate": 0.05, "dropout": 0.0, "device_batch": 32}
    facts = json.loads(stage.train(source_of(table), settings(mlp=own)).metrics)
    tried = len(facts["validation_losses"])
    assert facts["epochs"] == 1 + int(np.argmin(facts["validation_losses"])) == tried - 2 < 58
    assert facts["temperature"] != 1


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_learns_the_same_within_its_rounding(
    table: pa.Table, trained: stage.Trained, source_of, precision: str
) -> None:
    half = json.loads(stage.train(source_of(table), settings(mlp={"precision": precision, "epochs": 2})).metrics)
    whole = json.loads(stage.train(source_of(table), settings(mlp={"epochs": 2})).metrics)
    assert half["train_losses"] == pytest.approx(whole["train_losses"], abs=0.005)
    assert half["train_losses"] != whole["train_losses"]


def test_the_learning_rate_goes_up_in_a_line_and_down_in_a_cosine() -> None:
    assert [schedule(step, 10, 1000) for step in (0, 4)] == pytest.approx([0.1, 0.5], rel=1e-3)
    assert schedule(10, 10, 1000) > 0.999
    assert schedule(500, 10, 1000) == pytest.approx(0.5)
    assert schedule(999, 10, 1000) < 1e-5


class Stopper(Progress):
    """Asks a training to end once it has done so many steps."""

    def __init__(self, ending: Ending, at: int) -> None:
        super().__init__("mlp", seconds=1e9)
        self.ending, self.at, self.steps = ending, at, []

    def step(self, step, of, samples, losses, *rest, **more) -> None:
        self.steps.append(step)
        self.ending.asked |= step == self.at


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_stopped_anywhere_and_gone_on_it_has_the_bytes_of_one_that_was_not(
    table: pa.Table, source_of, tmp_path, precision: str
) -> None:
    source, use = source_of(table), settings(mlp={"precision": precision, "epochs": 3, "window": 900})
    whole = stage.train(source, use)
    epoch = -(-json.loads(whole.metrics)["rows"]["train"] // 64)
    keep = Store(url_of(tmp_path / "store"))
    done: list[int] = []
    for at in (
        3,
        epoch - 1,
        epoch + 7,
        2 * epoch,
    ):  # in the first epoch, before its last step, after it, at the end of the second
        ending = Ending()
        stopper = Stopper(ending, at)
        with pytest.raises(Ended):
            family.fit(source, source.contract(), use, Job(Checkpoints(keep, "x", use.checkpoint), stopper, ending))
        done += stopper.steps
    stopper = Stopper(Ending(), -1)
    last = family.fit(source, source.contract(), use, Job(Checkpoints(keep, "x", use.checkpoint), stopper, Ending()))
    assert done + stopper.steps == list(range(1, 3 * epoch + 1)), "no step is done twice"
    assert (last.onnx, last.native) == (whole.onnx, whole.native)
    known = {"family": "mlp", "training": stage.identity("mlp", source, use)}
    assert to_json(last.facts | known | source.facts) == whole.metrics


def test_a_checkpoint_of_other_steps_is_not_gone_on_from(table: pa.Table, source_of, tmp_path, capsys) -> None:
    """As where the number of machines has changed, which no setting says."""
    source, use = source_of(table), settings(mlp={"epochs": 1})
    keep, ending = Store(url_of(tmp_path / "store")), Ending()
    with pytest.raises(Ended):
        family.fit(
            source, source.contract(), use, Job(Checkpoints(keep, "x", use.checkpoint), Stopper(ending, 3), ending)
        )
    other = settings(mlp={"epochs": 1, "device_batch": 96})
    job = Job(Checkpoints(keep, "x", use.checkpoint), Stopper(Ending(), -1), Ending())
    again = family.fit(source, source.contract(), other, job)
    assert "of 64 rows a step, not 96" in capsys.readouterr().out
    assert again.native == stage.train(source, other).native


def test_without_pytorch_it_is_a_sentence_that_says_what_to_type() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from tasks.core.errors import run_main\nfrom tasks.training.families import named\nrun_main(lambda: named('mlp'))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=CODE, capture_output=True, text=True, check=False)
    assert done.returncode == EXIT_CODES[Status.REFUSED]
    assert done.stderr.startswith(
        "error: The model family mlp needs PyTorch, and torch is not installed here: run `make setup-torch`"
    )
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("codes", "kind", "status"),
    [
        ({0: 1, 1: 65}, AirloopError, Status.REFUSED),  # its peers crash because it has ended
        ({1: 75}, Unavailable, Status.WAITING),
        ({0: 1}, RuntimeError, None),
        ({0: -9, 1: 1}, RuntimeError, None),
    ],
)
def test_of_several_processes_only_a_refusal_is_one(codes, kind, status) -> None:
    error = launch.failure(2, codes)
    assert type(error) is kind and getattr(error, "status", None) is status
    assert f"worker(s) {', '.join(map(str, codes))} ended with" in str(error)


def test_without_enough_gpus_it_is_a_sentence(table: pa.Table, monkeypatch: pytest.MonkeyPatch, source_of) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"train.device=cuda, but PyTorch .* finds no GPU"):
        stage.train(source_of(table), settings(device="cuda"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match=r"train.mlp.processes=2, but this machine shows 1 GPU"):
        stage.train(source_of(table), settings(device="cuda", mlp={"processes": 2}))


def test_the_stages_after_it_take_it_as_any_other(tmp_path) -> None:
    """Evaluated as the champion's challenger would be, with parity below what the gate allows."""
    workspace = makers.Workspace(tmp_path, rows_a_day=40)
    workspace.raw["train"]["family"] = "mlp"
    workspace.save()
    workspace.golden()
    workspace.train()
    workspace.resolve(Store(url_of(tmp_path / "store")))
    workspace.evaluate()
    found = json.loads((tmp_path / "evaluation/evaluation.json").read_bytes())["candidate"]
    assert found["parity_gap"] <= workspace.params.gate.max_parity_gap / 10
    assert found["training"]["family"] == "mlp"
    assert found["behaviour"]["heavy rain"]["shift"] > 0


@pytest.mark.parametrize("span", [None, (3, 17)])
def test_workers_see_the_days_that_their_parent_sees(table: pa.Table, source_of, span) -> None:
    """A search trains on earlier days only, by however many processes."""
    source = replace(source_of(table), span=span)
    job = Job(Checkpoints(None, "", settings().checkpoint), Progress("mlp"), Ending())
    told = json.loads(launch.task(source, source.contract(), settings(), job))["source"]
    there = worker.source_of(told)
    assert there.digest == source.digest
    assert set(there.table("train")["day"].to_pylist()) == set(source.table("train")["day"].to_pylist())
    assert (max(there.table("train")["day"].to_pylist()) < 17) is (span is not None)
