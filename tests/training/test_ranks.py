"""Several processes: the same curve for the same effective batch, and a training that stops and goes on to the same bytes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tasks.core.urls import url_of
from tasks.settings.environment import CODE
from tests import makers

TOLERANCE = 2e-5
"""Of a step's loss, relative: sums in another order, through 32 steps of float32. Seen: 1e-7 to 2e-6."""
SHAPES = {"1 x 4": (1, 4, "ddp"), "2 x 2": (2, 2, "ddp"), "4 x 1": (4, 1, "ddp"), "2 x 2 sharded": (2, 2, "fsdp")}
STOP = 20


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict]]:
    """What each process of each training says; one program runs them all, for PyTorch takes seconds to import."""
    folder = tmp_path_factory.mktemp("ranks")
    # 32 rows a step do not divide the rows, so that the last step of an epoch leaves some processes without any.
    makers.put(makers.features("2013-02", 30), folder, "2013-02", row_group_size=150)

    def task(world: int, accumulation: int, parallel: str, **more) -> dict:
        raw = makers.settings()["train"] | {"family": "mlp"}
        raw["mlp"] |= {"processes": world, "accumulation": accumulation, "parallel": parallel, "epochs": 2,
                       "device_batch": 32 // (world * accumulation), "window": 300}  # fmt: skip
        return {"world": world, "settings": raw, "features": str(folder / "features"), "intervals": ["2013-02"],
                "holdout": {"every": 4, "remainder": 2}} | more  # fmt: skip

    tasks = {name: task(*shape) for name, shape in SHAPES.items()}
    for parallel in ("ddp", "fsdp"):
        store = url_of(folder / f"store-{parallel}")
        tasks[f"{parallel} stopped"] = task(2, 2, parallel, store=store, stop=STOP)
        tasks[f"{parallel} gone on"] = task(2, 2, parallel, store=store)
    (folder / "tasks.json").write_text(json.dumps(list(tasks.values())))
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.ranks", str(folder)],
        cwd=CODE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(zip(tasks, json.loads((folder / "results.json").read_text()), strict=True))


@pytest.mark.parametrize("shape", [name for name in SHAPES if name != "1 x 4"])
def test_equal_effective_batches_have_equal_curves(results: dict, shape: str) -> None:
    one, several = results["1 x 4"][0], results[shape][0]
    assert len(one["losses"]) == one["facts"]["steps"] > 20
    assert several["losses"] == pytest.approx(one["losses"], rel=TOLERANCE)
    assert several["facts"]["validation_losses"] == pytest.approx(one["facts"]["validation_losses"], rel=TOLERANCE)
    assert len(set(one["losses"])) > 20, "losses of different rows are different"


def test_only_the_first_process_has_the_result_and_the_word(results: dict) -> None:
    for process in results["4 x 1"][1:]:
        assert process == {"losses": [], "steps": []}


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_one_that_is_asked_to_end_takes_all_with_it_and_they_go_on_to_the_same_bytes(
    results: dict, parallel: str
) -> None:
    """Asked in the first process only; in FSDP's too, whose whole state is gathered for the checkpoint."""
    stopped, last = results[f"{parallel} stopped"], results[f"{parallel} gone on"][0]
    whole = results["2 x 2" if parallel == "ddp" else "2 x 2 sharded"][0]
    assert [process["ended"] for process in stopped] == [143, 143]
    assert stopped[0]["steps"] + last["steps"] == whole["steps"], "no step is done twice"
    assert stopped[0]["steps"][-1] in {STOP, STOP + 1}
    assert (last["native"], last["onnx"], last["facts"]) == (whole["native"], whole["onnx"], whole["facts"])


def test_sharded_weights_are_the_same_weights(results: dict) -> None:
    ddp, fsdp = results["2 x 2"][0]["facts"], results["2 x 2 sharded"][0]["facts"]
    assert fsdp["validation_log_loss"] == pytest.approx(ddp["validation_log_loss"], rel=TOLERANCE)
