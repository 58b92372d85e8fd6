"""A run: code revision, params.yaml and dvc.lock, in a workspace of its own; its record in the store replays it."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml

from tasks.common import code, landed, months, params
from tasks.common.artefacts import Store, to_json, write_atomic
from tasks.common.dvc_repo import DVC_RUNNING, LOCK, initialise, lock_bytes, read_lock, write_lock
from tasks.common.environment import environment
from tasks.common.errors import ConfigError, DataError
from tasks.common.params import Frozen, Month

RECORD = "run.json"

Dag = Literal["ingest", "train", "deploy", "score", "monitor"]


class Run(Frozen):
    """What was asked for, and with which code."""

    opened: str = ""
    """Random id of this beginning of the run: a run that is cleared and starts again has the same key."""
    key: str
    """Name of the run, its workspace and its record: no colons, since Hadoop paths reject them."""
    dag: Dag
    month: Month
    """The month it is about; for training, the last one it sees."""
    overrides: dict[str, Any]
    """Settings that differ from the checkout's params.yaml, by dotted name."""
    reason: str = ""
    """Why it was asked for, where a person said so."""
    code: code.Code


def workspace(key: str) -> Path:
    """Folder of run ``key``."""
    return environment().home.resolve() / "runs" / key


def open_run(
    key: str, dag: Dag, month: str, overrides: Mapping[str, Any], store: Store, *, begins: bool = False
) -> Path:
    """Make the workspace of a run, or find it as an earlier task or try left it, here or on another machine.

    The run's first task ``begins`` it: afresh, with the present code, settings and landed months, which every later task
    keeps. Returns the folder. ConfigError or DataError when the settings are wrong or months it needs have not landed.
    """
    root = workspace(key)
    record = f"runs/{key}/{RECORD}"
    if not begins and store.exists(record):
        if not (root / RECORD).exists() or (root / RECORD).read_bytes() != store.read(record):
            _restore(root, key, store)
        _take(root, key, store)
    else:
        _create(root, key, dag, month, overrides, store)
        save_record(root, store)
    return root


def _create(root: Path, key: str, dag: Dag, month: str, overrides: Mapping[str, Any], store: Store) -> None:
    source = environment().code
    raw = yaml.safe_load((source / "params.yaml").read_text())
    for setting, value in overrides.items():
        _override(raw, setting, value)
    records = landed.read_all(store)
    raw["months"] = months.window(_window(dag, month, records, params.parse(raw)))
    params.parse(raw, "params.yaml with this run's overrides")

    if root.exists():
        shutil.rmtree(root)
    root.mkdir(parents=True)
    code.copy(source, root)
    (root / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    write_lock(root, {stage: entry for m in raw["months"] if m in records for stage, entry in records[m].lock.items()})
    _initialise(root)
    identity = code.identify(source)
    code.archive(root, identity, store)
    run = Run(
        opened=uuid.uuid4().hex,
        key=key,
        dag=dag,
        month=month,
        overrides=dict(overrides),
        reason=os.environ.get("AIRLOOP_REASON", ""),
        code=identity,
    )
    write_atomic(root / RECORD, to_json(run.model_dump()))


def _restore(root: Path, key: str, store: Store) -> None:
    """Make the workspace again from the run's record; outputs are brought when a stage asks for them."""
    if root.exists():
        shutil.rmtree(root)  # of an earlier beginning of this run, or half made
    root.mkdir(parents=True)
    record = store.read(f"runs/{key}/{RECORD}")
    code.unpack(Run.model_validate_json(record).code, store, root)
    (root / "params.yaml").write_bytes(store.read(f"runs/{key}/params.yaml"))
    _initialise(root)
    write_atomic(root / RECORD, record)


def _take(root: Path, key: str, store: Store) -> None:
    """Make dvc.lock and the settings, which a search may have chosen, those that were recorded, here or elsewhere.

    DVC writes its files in place, so a task that was killed may have left half of one. What it did and did not record
    is in the run cache.
    """
    settings = store.read(f"runs/{key}/params.yaml")
    if settings != (root / "params.yaml").read_bytes():
        write_atomic(root / "params.yaml", settings)
    write_atomic(root / LOCK, store.read(f"runs/{key}/{LOCK}"))
    (root / DVC_RUNNING).unlink(missing_ok=True)  # one task at a time works here, so whoever it names has ended


def _initialise(root: Path) -> None:
    initialise(
        root,
        cache=environment().cache_dir,
        remote=environment().remote_url,
        site_cache=environment().home.resolve() / "site-cache",
    )


def read_run(root: Path) -> Run:
    """The run whose workspace is ``root``."""
    return Run.model_validate_json((root / RECORD).read_bytes())


def save_record(root: Path, store: Store, stages: Iterable[str] | None = None) -> None:
    """Keep the run's record in the store: small, and enough to replay it.

    With ``stages``, only their entries are added to the dvc.lock that is kept, which others may have written to.
    """
    key = read_run(root).key
    kept = read_lock(root)
    if stages is not None and store.exists(f"runs/{key}/{LOCK}"):
        kept = {**yaml.safe_load(store.read(f"runs/{key}/{LOCK}"))["stages"], **{name: kept[name] for name in stages}}
    store.write(f"runs/{key}/{LOCK}", lock_bytes(kept))
    for name in (RECORD, "params.yaml", "dvc.yaml"):
        if not store.exists(f"runs/{key}/{name}") or store.read(f"runs/{key}/{name}") != (root / name).read_bytes():
            store.write(f"runs/{key}/{name}", (root / name).read_bytes())


def landed_lock(root: Path, month: str) -> dict[str, Any]:
    """Entries of ``root``'s dvc.lock that belong to ``month``."""
    return {stage: entry for stage, entry in read_lock(root).items() if stage.endswith(f"@{month}")}


def _window(dag: Dag, month: str, records: dict[str, landed.Landed], settings: params.Params) -> list[str]:
    """Months that the run needs in its workspace; all but ingest's own must have landed."""
    first = settings.feed.first_month
    if month < first:
        raise ConfigError(f"month={month} is before feed.first_month={first} in params.yaml.")
    if dag == "ingest":
        window = [month] if month == first else [months.shift(month, -1), month]
        if window[0] != month and window[0] not in records:
            raise DataError(
                f"{month} looks back on {window[0]}, which has not landed. Run the ingest DAG for {window[0]} first."
            )
        return window
    if dag == "train":
        window = months.span(first, month)
    elif dag == "monitor":
        golden = [m for m in settings.golden.months if m in records]
        window = sorted({*golden, month})
    else:
        window = [month]
    landed.require_consistent(records, window)
    return window


def _override(raw: dict[str, Any], setting: str, value: Any) -> None:
    """Set the dotted ``setting`` in parsed YAML; ConfigError if there is no such setting."""
    *path, last = setting.split(".")
    node: Any = raw
    for part in path:
        node = node.get(part) if isinstance(node, dict) else None
    if not isinstance(node, dict) or last not in node:
        raise ConfigError(f"{setting}={value!r} names no setting of params.yaml; look there for its dotted name.")
    node[last] = value
