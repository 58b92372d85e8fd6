"""Every command of the docs works as it is written: it is run, or checked dry for a reason."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from local.paths import ROOT
from tests.docs import rules
from tests.docs.commands import FENCE, Written, in_page, pages, written
from tests.kubernetes.airflow_values import values_of
from tests.kubernetes.kustomize import render

ALL = written()


@pytest.mark.parametrize("command", [one for one in ALL if rules.how(one.text) == "dry"], ids=str)
def test_it_would_work(command: Written) -> None:
    rules.check(command.text)


@pytest.mark.parametrize("text", ["make help"])
def test_it_works(text: str) -> None:
    done = subprocess.run(text, shell=True, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S602 - it is the docs' text
    assert done.returncode == 0, done.stderr
    targets = set(re.findall(r"^  make ([a-z-]+)", done.stdout, re.MULTILINE))
    assert {"demo", "test", "setup", "clean"} <= targets


def test_secrets_are_made_and_found_as_docs_containers_md_says(tmp_path: Path) -> None:
    lines = [one.text for one in ALL if one.file == "docs/containers.md" and rules.how(one.text) == "run"]
    shutil.copytree(ROOT / "docker", tmp_path / "docker")
    done = subprocess.run(["sh", "-euc", "\n".join(lines)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^AIRLOOP_ADMIN_PASSWORD=\S{8,}$", done.stdout, re.MULTILINE)


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Name to key to value: what the secrets' block of docs/kubernetes.md makes, run with a kubectl that notes its words."""
    folder = tmp_path_factory.mktemp("secrets")
    (folder / "kubectl").write_text('#!/bin/sh\nfor word in "$@"; do printf "%s\\n" "$word"; done\necho\n')
    (folder / "kubectl").chmod(stat.S_IRWXU)
    (block,) = [text for _, text in FENCE.findall(pages()["docs/kubernetes.md"]) if "create secret" in text]
    environ = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-euc", block], env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    made = {}
    for said in filter(None, done.stdout.split("\n\n")):
        verb, kind, generic, name, *options = said.split("\n")
        assert [verb, kind, generic] == ["create", "secret", "generic"]
        assert all(option.startswith("--from-literal=") for option in options), options
        made[name] = dict(option.removeprefix("--from-literal=").split("=", 1) for option in options)
    return made


def test_the_secrets_of_docs_kubernetes_md_are_those_that_dev_reads(secrets: dict[str, dict[str, str]]) -> None:
    objects = [*render(ROOT / "kubernetes/overlays/dev"), values_of("dev")]
    asked = list(references(objects))
    assert len(asked) > 4
    for name, key in asked:
        assert name in secrets, f"docs/kubernetes.md makes no Secret {name}"
        assert key in {None, *secrets[name]}, f"docs/kubernetes.md makes no {key} in the Secret {name}"
    assert all(len(value) >= 6 for keys in secrets.values() for value in keys.values())


def references(thing: object):
    """(Secret, key or None) that objects refer to, but for what they can do without."""
    if isinstance(thing, list):
        for each in thing:
            yield from references(each)
    if isinstance(thing, dict):
        for field in ("secretKeyRef", "secretRef"):
            found = thing.get(field)
            if isinstance(found, dict) and not found.get("optional"):
                yield found["name"], found.get("key")
        for each in thing.values():
            yield from references(each)


def test_backfills_differ_from_the_one_that_is_run_in_days_alone() -> None:
    """tests/e2e/test_documented.py runs README.md's by the real Airflow."""
    found = [re.sub(r"\d{4}-\d\d-\d\d", "", one.text[one.text.index("airflow ") :]) for one in ALL if "backfill create" in one.text]
    assert len(found) > 2
    assert len(set(found)) == 1


def test_every_kind_of_dry_check_has_its_reason() -> None:
    programs = {name for name in rules.CHECKS if name not in {"base64", "do", "done", "for", "sed", "sudo"}}
    assert programs == set(rules.WHY_DRY)


def test_what_is_mentioned_is_there() -> None:
    assert set(rules.MENTIONED) <= {command.text for command in ALL}


def test_commands_are_found_wherever_they_stand() -> None:
    page = "`make a\nb` and `THE=1 docker x`\n| do | `dvc y z` |\n```sh\nfoo bar  # why\nlong \\\n  line\n```\n```json\n{}\n```\n"
    assert list(in_page(page)) == ["foo bar", "long line", "make a b", "THE=1 docker x", "dvc y z"]


@pytest.mark.parametrize(
    "wrong",
    [
        "frobnicate --now",
        "make deomo",
        "make demo TROUGH=2013-03",
        "make up",
        "make demo PLACE=moon",
        "airloop rollback one",
        "airloop rollback 1 --modle flights",
        "airloop lineage --place compose 1",
        "airloop up --place moon",
        "airloop heal --model fligths",
        "airloop frobnicate",
        "make test ARGS=tests/dokcer",
        "airflow dags trigger flights.ingest --interval 2013-01",
        "airflow backfill create --dag ingest --from-date 2013-01-01",
        "airflow dags trigger flights.ingset",
        "airflow dags trigger ingest",
        "dvc repro feature",
        "airloop rerpo flights",
        "airloop repro fligths",
        "airloop repro flights --lats 2013-03",
        "airloop repro -- feature",
        "python models/flights/landing.py",
        "python tasks/serach.py",
        "docker compose up --biuld",
        "docker compose logs schedular",
        "docker compose exec scheduler airflow dags trigger",
        "AIRLOOP_BALANCES=round_robin docker compose up",
        "kubectl apply -k kubernetes/overlay/dev",
        "kubectl exec deploy/airflow-sheduler -- airflow dags trigger flights.ingest",
        "helm upgrade --install airflow apache-airflow/airflow --version 1.2.0 --values kubernetes/airflow/values-dev.yaml",
        "curl -s http://127.0.0.1:8000/ready",
        "for role in train sparc; do kind load docker-image --name airloop airloop-$role:local; done",
    ],
)
def test_one_that_cannot_work_is_seen(wrong: str) -> None:
    with pytest.raises((AssertionError, KeyError)):
        rules.check(wrong)
