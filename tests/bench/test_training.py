"""The bench of training trains what the stage would, and says of a machine without a GPU that there is nothing to measure."""

from __future__ import annotations

import json

import pytest
import torch

from bench import gpu, training
from tests import makers

SMALL = {"epochs": 2, "early_stopping_epochs": 2, "device_batch": 128, "hidden": [8]}


@pytest.mark.parametrize("family", ["xgboost", "mlp"])
def test_a_training_is_timed_from_its_own_steps(tmp_path, family: str) -> None:
    makers.put(makers.features("2013-01"), tmp_path, "2013-01")
    use = training.settings(family, **SMALL)
    use["xgboost"] |= {"rounds": 20, "segment_rounds": 20}
    found = training.one(json.loads(training.spec(tmp_path / "features", use)))
    assert found["steps"] == (20 if family == "xgboost" else 2 * -(-1107 // 128))
    assert found["rate"] * found["seconds"] > 1107, "an epoch went by"
    assert found["cpu_s"] > 0 and found["own_peak_mb"] > 50


def test_the_gpus_rows_are_rows_that_a_training_takes(tmp_path) -> None:
    gpu.write(tmp_path / "features", 3000)
    found = training.one(json.loads(training.spec(tmp_path / "features", training.settings("mlp", **SMALL))))
    assert found["rate"] > 0


def test_without_a_gpu_it_is_skipped_with_the_reason(capsys, monkeypatch) -> None:
    monkeypatch.setattr("sys.argv", ["bench.gpu"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main() == 0
    assert capsys.readouterr().out == f"skipped: PyTorch {torch.__version__} finds no GPU.\n"
