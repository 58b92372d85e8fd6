"""``family: best``: both are trained, the better one by the validation days goes to the gate, and metrics.json says why."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tasks import train as stage
from tasks.core.results import EXIT_CODES, Status
from tasks.core.urls import url_of
from tasks.modelling.model import load
from tasks.modelling.stats import losses
from tasks.settings.environment import CODE
from tasks.settings.training_params import TrainParams
from tasks.storage.artefacts import Store, sha256
from tasks.training.ending import Ended
from tasks.training.families import mlp, xgboost
from tasks.training.source import Source
from tests import makers


def settings(**changes) -> TrainParams:
    raw = makers.settings()["train"]
    own = {family: raw[family] | changes.get(family, {}) for family in ("xgboost", "mlp")}
    return TrainParams.model_validate(raw | {"family": "best"} | own)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    table = pa.concat_tables([makers.features(interval, 30) for interval in ("2013-01", "2013-02")])
    return makers.source(table, tmp_path_factory.mktemp("features"))


@pytest.fixture(scope="module")
def trained(source: Source) -> stage.Trained:
    return stage.train(source, settings())


def alone(source: Source, family: str, use: TrainParams) -> stage.Trained:
    return stage.train(source, use.model_copy(update={"family": family}))


def test_the_better_one_is_sent_and_it_is_said_why(source: Source, trained: stage.Trained) -> None:
    facts = json.loads(trained.metrics)
    found = facts["best"]
    reached = found["validation_log_loss"]
    chosen = min(reached, key=reached.get)
    assert facts["family"] == found["chosen"] == chosen
    of_it = alone(source, chosen, settings())
    assert (trained.onnx, trained.contract, trained.native) == (of_it.onnx, of_it.contract, of_it.native)
    assert facts["training"] == json.loads(of_it.metrics)["training"]
    days = set(np.asarray(source.table("validation")["day"]).tolist())
    assert found["difference"]["days"] == len(days)
    assert found["difference"]["mean"] == pytest.approx(reached[chosen] - max(reached.values()))
    assert found["difference"]["lo"] < found["difference"]["mean"] < found["difference"]["hi"]
    assert found["why"].startswith(f"{chosen} has the lower log loss on the {len(days)} validation days: by ")
    assert found["why"].endswith("luck." if found["difference"]["hi"] < 0 else "which may be luck.")


def test_what_each_reached_is_what_its_model_says(source: Source, trained: stage.Trained) -> None:
    reached = json.loads(trained.metrics)["best"]["validation_log_loss"]
    watch = source.table("validation")
    for family, loss in reached.items():
        made = alone(source, family, settings())
        scores = load(made.onnx, made.contract, sha256(made.onnx)).score(watch)
        assert losses(watch["late"].to_numpy(), scores).mean() == pytest.approx(loss, abs=1e-6)


def test_the_other_one_is_sent_where_that_is_better(source: Source) -> None:
    hobbled = {"trees": settings(xgboost={"rounds": 1}), "network": settings(mlp={"epochs": 1, "learning_rate": 1e-9})}
    sent = {name: json.loads(stage.train(source, use).metrics)["family"] for name, use in hobbled.items()}
    assert sent == {"trees": "mlp", "network": "xgboost"}


def test_the_same_rows_give_the_same_bytes(source: Source, trained: stage.Trained) -> None:
    assert stage.train(source, settings()) == trained


def test_a_second_one_that_is_killed_does_not_repeat_the_first(
    source: Source, trained: stage.Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    store, use = Store(url_of(tmp_path)), settings()

    def die(*_: object) -> None:
        raise Ended

    with monkeypatch.context() as patch:
        patch.setattr(mlp, "fit", die)
        with pytest.raises(Ended):
            stage.train(source, use, store)
    with monkeypatch.context() as patch:
        patch.setattr(xgboost, "fit", lambda *_: pytest.fail("trees are grown again"))
        assert stage.train(source, use, store) == trained
    assert "train: xgboost is done already" in capsys.readouterr().out
    stage.forget(source, use, store)
    assert store.names("checkpoints") == []


def test_without_pytorch_it_says_so_before_anything_is_trained(tmp_path: Path) -> None:
    workspace = makers.Workspace(tmp_path, rows_a_day=20)
    workspace.raw["train"]["family"] = "best"
    workspace.save()
    code = """
import sys
class NoTorch:
    def find_spec(self, name, *_):
        if name == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name=name)
sys.meta_path.insert(0, NoTorch())
from tasks import train
from tasks.core.errors import run_main
sys.argv = ["train"]
run_main(train.main)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(CODE), "AIRLOOP_STORE": url_of(tmp_path / "store")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (EXIT_CODES[Status.REFUSED], "")
    assert done.stderr.startswith("error: The model family mlp needs PyTorch") and "make setup-torch" in done.stderr
