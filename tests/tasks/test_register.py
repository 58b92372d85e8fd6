"""What the gate refused is not registered: no model in the store, nothing in MLflow, and the task is skipped."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks import register
from tasks.core.errors import DataError, run_main
from tasks.core.results import EXIT_CODES, Status
from tasks.core.urls import url_of
from tasks.running.runs import RECORD, Run
from tasks.settings import code, environment, policy
from tasks.settings.environment import CODE
from tasks.storage.artefacts import Store, sha256_file, to_json, write_atomic
from tests.serving.world import make_model

KEY = "train-2013-04-abc"
REFUSALS: dict[str, Any] = {
    "refused": {"passed": False, "verdict": "refused", "failures": ["golden auc: 0.5012 < 0.68", "golden.digest differs"]},
    "not better": {"passed": False, "verdict": "keep champion", "failures": ["d_log_loss: [-0.004, 0.011] holds 0"]},
    "nothing said": {},
    "a word for a truth value": {"passed": "true", "verdict": "promote"},
    "a number for a truth value": {"passed": 1, "verdict": "promote"},
}  # fmt: skip

FILES = {"model": "model.onnx", "contract": "contract.json"}


class Candidate:
    """The workspace of a training run whose gate has spoken."""

    def __init__(self, root: Path, store: Store) -> None:
        self.root, self.store = root, store
        onnx, contract = make_model(1.0)
        for name, content in (("model.onnx", onnx), ("contract.json", contract)):
            write_atomic(root / "model" / name, content)
        for name in ("smoke.json", "evaluation.json"):
            write_atomic(root / "evaluation" / name, b"{}\n")
        identity = code.Code(revision="r", dirty=False, tree="t")
        run = Run(key=KEY, model="flights", first="2013-04", last="2013-04", overrides={}, code=identity)
        write_atomic(root / RECORD, to_json(run.model_dump()))

    def judged(self, verdict: dict[str, Any]) -> None:
        """What the gate said of this very model."""
        evidence = {name: sha256_file(self.root / "model" / file) for name, file in FILES.items()}
        evidence["policy"] = policy.digest(CODE, "flights")
        write_atomic(self.root / "gate/gate.json", json.dumps(verdict | {"evidence": evidence}).encode())


@pytest.fixture
def candidate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Candidate]:
    store = Store(url_of(tmp_path / "store")).part("flights")
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    monkeypatch.setenv("AIRLOOP_STORE", store.shared.url)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'registry.db'}")
    monkeypatch.setattr(sys, "argv", ["register.py"])
    environment.environment.cache_clear()
    yield Candidate(tmp_path / "run", store)
    environment.environment.cache_clear()


@pytest.mark.parametrize("verdict", REFUSALS.values(), ids=REFUSALS)
def test_what_did_not_pass_is_not_registered_and_every_reason_is_said(
    candidate: Candidate, verdict: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    candidate.judged(verdict)
    with pytest.raises(SystemExit) as ended:
        run_main(register.main)
    assert ended.value.code == EXIT_CODES[Status.SKIPPED], "Airflow skips the task, and deploy is not started"
    said = capsys.readouterr().out
    for reason in verdict.get("failures", ["gate.json does not say that it passed"]):
        assert reason in said
    assert not (tmp_path / "registry.db").exists(), "MLflow was not even asked"
    assert candidate.store.names("models") == []
    assert candidate.store.names("runs") == [f"runs/{KEY}/gate.json"], "the refusal is kept"


@pytest.mark.parametrize("file", FILES.values())
def test_another_model_than_the_gate_judged_is_not_registered(candidate: Candidate, tmp_path: Path, file: str) -> None:
    candidate.judged({"passed": True, "verdict": "promote", "failures": []})
    path = candidate.root / "model" / file
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(DataError, match=f"model/{file} has sha256 .* the gate judged"):
        register.main()
    assert not (tmp_path / "registry.db").exists()
    assert candidate.store.names("models") == []
