"""The mark: everything that a registered or live model, a landed interval or a recent run needs, from the records themselves."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from tasks.core.errors import AirloopError
from tasks.core.model_names import SHARED
from tasks.landing import landed, landed_index
from tasks.registry import versions
from tasks.settings import code
from tasks.storage.artefacts import Store
from tasks.versioning.lock_file import LOCK, read_lock


@dataclass
class Marked:
    """What must stay."""

    models: set[str] = field(default_factory=set)
    """Digests of ONNX files."""
    records: set[str] = field(default_factory=set)
    """Folders of registered versions' records, ``models/<digest>/record-<digest>``."""
    runs: set[str] = field(default_factory=set)
    """Keys of runs."""
    trees: set[str] = field(default_factory=set)
    """Digests of code."""
    data: set[str] = field(default_factory=set)
    """md5 digests of DVC's objects, with ``.dir`` where they are folders."""
    state: set[str] = field(default_factory=set)
    """Names of the online service's state files."""
    chunks: set[str] = field(default_factory=set)
    """Names of the chunks of the index of landed intervals."""
    tracked: set[str] = field(default_factory=set)
    """Ids of MLflow's runs."""

    def lock(self, stages: dict[str, Any]) -> None:
        """What the entries of a dvc.lock name, inputs as well as outputs."""
        for entry in stages.values():
            for item in (*entry.get("deps", []), *entry.get("outs", [])):
                if digest := item.get("md5"):
                    self.data.add(str(digest))

    def workspaces(self, folder: Path) -> None:
        """What the runs whose workspaces are in ``folder`` have made that their records do not name yet."""
        for lock in sorted(folder.glob(f"*/{LOCK}")):
            # Half a lock, of a task that was killed, names nothing.
            with contextlib.suppress(yaml.YAMLError, KeyError, TypeError, OSError):
                self.lock(read_lock(lock.parent))


def models(store: Store) -> list[str]:
    """Names of the models that have a part of ``store``."""
    return [name for name in store.parts() if name not in SHARED]


def united(marks: Iterable[Marked]) -> Marked:
    """What must stay for any of ``marks``."""
    whole = Marked()
    for each in marks:
        for part in fields(Marked):
            getattr(whole, part.name).update(getattr(each, part.name))
    return whole


def mark(store: Store, records: float, data: float) -> Marked:
    """Everything reachable.

    Args:
        store: a model's part, with the ledger, versions, landed intervals and records of runs.
        records: epoch seconds; the record of a run that was written to since is kept, and its code.
        data: epoch seconds; of a run whose record was written to since, all that its lock names is kept too.

    Raises:
        AirloopError: a record cannot be read, so that nothing can be said of what it needs.
    """
    marked = Marked()
    _mark_versions(store, marked)
    _mark_landed(store, marked)
    listed = store.details("runs")
    marked.runs |= {_key(name) for name, facts in listed.items() if facts.written > records}
    recent = {_key(name) for name, facts in listed.items() if facts.written > data}
    for name in listed:
        if name.endswith("/run.json") and _key(name) in marked.runs:
            marked.trees.add(_tree(store, name))
        elif name.endswith(f"/{LOCK}") and _key(name) in recent:
            marked.lock(_stages(store, name))
    return marked


def _mark_versions(store: Store, marked: Marked) -> None:
    for version in versions.read_all(store).values():
        marked.models.add(version.model)
        marked.runs.add(version.run)
        marked.trees |= {version.tags["airloop.tree"]} if "airloop.tree" in version.tags else set()
        marked.tracked |= {version.tags["airloop.training_run"]} if "airloop.training_run" in version.tags else set()
        if version.record is not None:
            marked.records.add(version.file(LOCK).rpartition("/")[0])
            marked.lock(_stages(store, version.file(LOCK)))
            marked.trees.add(_tree(store, version.file("run.json")))


def _mark_landed(store: Store, marked: Marked) -> None:
    index = landed_index.read(store)
    marked.chunks |= {chunk.name for chunk in index.head.chunks}
    for item in index:  # which is ahead of the record of an interval that lands at this moment
        marked.data |= {item.features, *([item.labels] if item.labels else [])}
        marked.state |= {file.name for file in item.state.values()}
    for record in landed.read_all(store).values():
        marked.runs.add(record.run)
        marked.lock(record.lock)
        marked.data.add(record.features)
        marked.state |= {file.name for file in record.state.values()}


def expand(folders: Iterable[tuple[str, bytes]], marked: Marked) -> None:
    """Mark the files of DVC's marked folders; each comes with its digest and its listing (JSON)."""
    for digest, listing in folders:
        if digest in marked.data:
            marked.data |= {str(file["md5"]) for file in json.loads(listing)}


def archives(marked: Marked) -> set[str]:
    """Names in the store of the marked code."""
    return {code.archive_name(tree) for tree in marked.trees}


def _key(name: str) -> str:
    return name.split("/")[1]


def _stages(store: Store, name: str) -> dict[str, Any]:
    try:
        return dict(yaml.safe_load(store.read(name))["stages"])
    except (yaml.YAMLError, KeyError, TypeError, ValueError, FileNotFoundError) as error:
        raise _unreadable(store, name, error) from None


def _tree(store: Store, name: str) -> str:
    """Digest of the code that a run's record names; the rest of the record may be of an older Airloop."""
    try:
        return str(json.loads(store.read(name))["code"]["tree"])
    except (KeyError, TypeError, ValueError, FileNotFoundError) as error:
        raise _unreadable(store, name, error) from None


def _unreadable(store: Store, name: str, error: Exception) -> AirloopError:
    return AirloopError(
        f"{store.uri(name)} cannot be read ({error}), so nothing can be said of what it needs and nothing is deleted. "
        "Restore it from a backup."
    )
