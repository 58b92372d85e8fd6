"""Policy apart from proposal: what a run may not change does not reach register, whatever way it is changed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks.core.errors import ConfigError, DataError
from tasks.core.results import EXIT_CODES, Status
from tasks.core.urls import url_of
from tasks.running.runs import RECORD, Request, Run, Span, open_run, save_record
from tasks.settings import policy, settings_files
from tasks.settings.environment import CODE, environment
from tasks.storage.artefacts import Store, to_json, write_atomic

OWN = "models/flights/params.yaml"
SPAN = Span("flights", "2013-01", "2013-01")


def leaves(content: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """Dotted name of each section and each setting of nested sections."""
    for name, value in content.items():
        yield f"{above}{name}"
        if isinstance(value, Mapping):
            yield from leaves(value, f"{above}{name}.")


SETTINGS = sorted(leaves(settings_files.read(CODE, "flights")))
POLICY = [name for name in SETTINGS if not name.startswith("train") and name != "export.quantize"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout's settings."""
    for name in ("params.yaml", OWN, settings_files.spec_of("flights")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CODE / name, tmp_path / name)
    return tmp_path


def change(path: Path, **sections: object) -> None:
    """Put sections into a file."""
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | sections))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setenv("AIRLOOP_HOME", str(tmp_path / "home"))
    environment.cache_clear()
    yield Store(url_of(tmp_path / "store")).part("flights")
    environment.cache_clear()


def test_the_settings_are_many_and_both_kinds_are_there() -> None:
    assert len(POLICY) > 50 and "gate.floors.auc" in POLICY and "export.max_gap" in POLICY
    assert {"train.seed", "train.xgboost.eta", "export.quantize"} <= set(SETTINGS) - set(POLICY)


@pytest.mark.parametrize("setting", POLICY)
def test_a_run_that_changes_policy_is_not_opened(store: Store, setting: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{setting}: not for one run to change.*exploratory"):
        open_run(Request("k", SPAN, "lookback", {setting: None}), store, begins=True)
    assert store.names("runs") == []


@pytest.mark.parametrize("setting", [name for name in SETTINGS if name not in POLICY])
def test_a_proposal_is_no_policy(setting: str) -> None:
    policy.require_proposals({setting: None})


def test_a_quantised_model_that_nobody_measured_is_no_proposal() -> None:
    policy.require_proposals({"export.quantize": "dynamic"})
    with pytest.raises(ConfigError, match=r"export.quantize='int8': not for one run to ask for"):
        policy.require_proposals({"export.quantize": "int8"})


def test_a_section_that_a_proposal_is_in_is_policy() -> None:
    """Else `export` as a whole would replace its limits."""
    for setting in ("export", "trainer", "train_more.x", "export.quantized"):
        with pytest.raises(ConfigError, match=setting):
            policy.require_proposals({"train.seed": 1, setting: None})


def test_an_exploratory_run_may_have_another_policy_and_its_record_says_so(store: Store) -> None:
    request = Request("k", SPAN, "lookback", {"gate.floors.auc": 0.1}, exploratory=True)
    made = Run.model_validate_json((open_run(request, store, begins=True) / RECORD).read_bytes())
    assert made.exploratory and made.overrides == {"gate.floors.auc": 0.1}


@pytest.mark.parametrize("job", ["register", "publish"])
def test_nothing_leaves_an_exploratory_run(tmp_path: Path, store: Store, job: str) -> None:
    """By the command line that Airflow runs, with a verdict that passed by the policy in force."""
    request = Request("k", SPAN, "lookback", {"gate.floors.auc": 0.1}, exploratory=True)
    root = open_run(request, store, begins=True)
    verdict = {"passed": True, "verdict": "promote", "evidence": {"policy": policy.digest(CODE, "flights")}}
    write_atomic(root / "gate/gate.json", to_json(verdict))
    argv = [sys.executable, "-m", "tasks.running", "job", job, "--run", "k", "--model", "flights", "--first", "2013-01"]
    places = {"AIRLOOP_HOME": str(tmp_path / "home"), "AIRLOOP_STORE": store.shared.url, "PYTHONPATH": str(CODE)}
    done = subprocess.run(argv, cwd=CODE, env={**os.environ, **places}, capture_output=True, text=True, check=False)
    assert done.returncode == EXIT_CODES[Status.SKIPPED], done.stderr
    assert "run k is exploratory: what it made is in its workspace" in done.stdout
    assert not [name for folder in ("landed", "models", "index") for name in store.names(folder)]


def test_the_policy_of_the_checkout_counts_and_not_that_of_the_workspace(tmp_path: Path, store: Store) -> None:
    """Whoever can change a run's files still registers nothing by limits of their own; AIRLOOP_CODE need not be set."""
    root = open_run(Request("k", SPAN, "lookback"), store, begins=True)
    gate = yaml.safe_load((root / OWN).read_text())["gate"]
    change(root / OWN, gate={**gate, "floors": {"auc": 0.0, "ece": 1.0}})
    save_record(root, store)
    verdict = {"passed": True, "verdict": "promote", "evidence": {"policy": policy.digest(root, "flights")}}
    write_atomic(root / "gate/gate.json", to_json(verdict))
    argv = [
        sys.executable,
        "-m",
        "tasks.running",
        "job",
        "register",
        "--run",
        "k",
        "--model",
        "flights",
        "--first",
        "2013-01",
    ]
    places = {"AIRLOOP_HOME": str(tmp_path / "home"), "AIRLOOP_STORE": store.shared.url, "PYTHONPATH": str(CODE)}
    env = {name: value for name, value in os.environ.items() if name != "AIRLOOP_CODE"} | places
    done = subprocess.run(argv, cwd=CODE, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == EXIT_CODES[Status.REFUSED], done.stderr
    assert "The gate judged flights by another policy" in done.stderr
    assert store.names("models") == []


@pytest.mark.parametrize(
    ("file", "sections", "changes"),
    [
        (OWN, {"gate": {"floors": {"auc": 0.5}}}, True),
        (OWN, {"golden": {"rows": 1}}, True),
        (OWN, {"holdout": {"every": 5, "remainder": 0}}, True),
        (OWN, {"monitor": {"max_ece": 0.9}}, True),
        (OWN, {"validate": {"max_bad_share": 1}}, True),
        (OWN, {"features": {}}, True),
        (OWN, {"export": {"quantize": "none", "max_gap": 1}}, True),
        ("params.yaml", {"evaluate": {"smoke_rows": 1}}, True),
        (OWN, {"train": {"seed": 8}}, False),
        ("params.yaml", {"pods": {"errors": 2}}, False),
    ],
)
def test_the_digest_follows_what_decides_and_no_proposal(
    root: Path, file: str, sections: dict[str, object], changes: bool
) -> None:
    before = policy.digest(root, "flights")
    change(root / file, **sections)
    assert (policy.digest(root, "flights") != before) == changes
    if changes:
        with pytest.raises(DataError, match=r"judged flights by another policy .* is void; run the train DAG again"):
            policy.require(before, root, "flights")


def test_the_digest_does_not_follow_the_proposal_beside_the_export_limits(root: Path) -> None:
    before = policy.digest(root, "flights")
    export = yaml.safe_load((root / OWN).read_text())["export"]
    change(root / OWN, export={**export, "quantize": "int8"})
    assert policy.digest(root, "flights") == before
    policy.require(before, root, "flights")


def test_the_digest_follows_the_declared_target(root: Path) -> None:
    before = policy.digest(root, "flights")
    path = root / settings_files.spec_of("flights")
    path.write_text(path.read_text().replace('"target": "', '"target": "0'))
    assert policy.digest(root, "flights") != before


@pytest.mark.parametrize("older", [None, "", "0" * 64])
def test_a_verdict_without_this_policy_is_void(root: Path, older: object) -> None:
    with pytest.raises(DataError, match="another policy"):
        policy.require(older, root, "flights")
