"""The model versions that were registered: the store's book of them, of which MLflow's registry is a view.

A number means one model for ever. It is created here exclusively, with the digests of everything that makes the version, so
that what people delete or make in MLflow can neither take a version away nor give its number to another model.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from tasks.core.errors import DataError
from tasks.core.frozen import Frozen
from tasks.registry import ledger
from tasks.storage.artefacts import Store, sha256, to_json

FOLDER = "versions"
SETTINGS = "airloop.settings."
"""Begins the tags that hold the digests of the files of settings."""
REBUILD = ("dvc.lock", "dvc.yaml", "run.json")
"""Files of the training run that make the model again, with its settings."""


class Version(Frozen):
    """One registered model version."""

    version: int
    record: str | None
    """Digest of its record, ``models/<model>/record-<digest>/``; null for one that only the ledger remembers."""
    tags: dict[str, str]
    """What MLflow has as well: ``airloop.run``, ``airloop.onnx``, and so on."""
    at: str
    """When it was registered, ISO 8601 UTC."""

    @property
    def model(self) -> str:
        """Digest of the ONNX file."""
        return self.tags["airloop.onnx"]

    @property
    def settings(self) -> dict[str, str | None]:
        """Files of settings in its record, by path in a workspace, to their digests."""
        tags = self.tags
        found: dict[str, str | None] = {
            name.removeprefix(SETTINGS): tags[name] for name in tags if name.startswith(SETTINGS)
        }
        return found or {"params.yaml": tags.get("airloop.params")}  # of an older version, in which it held everything

    @property
    def run(self) -> str:
        """Training run that made the model."""
        return self.tags["airloop.run"]

    @property
    def data_through(self) -> str:
        """Last interval the model was trained on."""
        return self.tags["airloop.data_through"]

    @property
    def evidence(self) -> ledger.Evidence:
        """What a decision about this version rests on."""
        tags = self.tags
        return ledger.Evidence(
            model=self.model,
            contract=tags["airloop.contract"],
            run=self.run,
            data_through=self.data_through,
            labelled_through=tags.get("airloop.labelled_through", self.data_through),
            verdict=tags.get("airloop.gate"),
            policy=tags.get("airloop.policy"),
        )

    def file(self, name: str) -> str:
        """Name in the store of a file of the version's record; DataError when it has none."""
        if self.record is None:
            raise DataError(
                f"v{self.version} was registered before versions kept their record in the store, so {name} of it is not "
                "there. Train again to get a version that can be rebuilt; this one can still serve."
            )
        return f"models/{self.model}/record-{self.record}/{name}"


def read_all(store: Store) -> dict[int, Version]:
    """All versions by number, in order: those registered here, and those that only the ledger remembers."""
    found = {entry.to_version: _remembered(entry) for entry in ledger.Ledger(store).entries() if entry.to_version}
    for name in store.names(FOLDER):
        version = _parse(store, name)
        found[version.version] = version
    return dict(sorted(found.items()))


def read(store: Store, number: int) -> Version:
    """Version ``number``; DataError when there is none."""
    known = read_all(store)
    if number not in known:
        those = f"there are {', '.join(f'v{n}' for n in known)}" if known else "there is none yet"
        raise DataError(f"No version {number} was registered in {store.url}: {those}.")
    return known[number]


def find(store: Store, number: int) -> Version | None:
    """Version ``number`` as it was registered here; None when it was not."""
    return _parse(store, _name(number)) if store.exists(_name(number)) else None


def newest_through(store: Store, data_through: str) -> Version:
    """The newest version trained through this interval; only what passed the gate is ever registered."""
    fitting = [version for version in read_all(store).values() if version.data_through == data_through]
    if not fitting:
        raise DataError(
            f"{store.url} has no registered model trained through {data_through}; run the train DAG for that interval."
        )
    return fitting[-1]


def of_run(store: Store, tags: Mapping[str, str]) -> Version | None:
    """The version that the run in ``tags`` registered with this model and this verdict, None when it did not yet.

    Another verdict on the same model is another version: an approval lapses, and a version's record is never written again.
    """
    about = [f"airloop.{name}" for name in ("run", "onnx", "gate")]
    same = [v for v in read_all(store).values() if v.record and all(v.tags.get(name) == tags[name] for name in about)]
    return same[-1] if same else None


def put_record(store: Store, model: str, files: Mapping[str, bytes]) -> str:
    """Keep the files that make ``model`` again, beside it, by their content; returns the record's digest."""
    digest = sha256(to_json({name: sha256(content) for name, content in files.items()}))[:16]
    for name, content in files.items():
        store.write(f"models/{model}/record-{digest}/{name}", content)
    return digest


def claim(store: Store, number: int, record: str, tags: Mapping[str, str]) -> Version | None:
    """Make ``number`` mean this model; None when the number is taken."""
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    version = Version(version=number, record=record, tags=dict(tags), at=now)
    taken = not store.create(_name(number), to_json(version.model_dump()))
    return None if taken else version


def _name(number: int) -> str:
    return f"{FOLDER}/{number:06d}.json"


def _parse(store: Store, name: str) -> Version:
    try:
        version = Version.model_validate(json.loads(store.read(name)))
    except (ValidationError, ValueError) as error:
        raise DataError(
            f"{store.uri(name)} is not a record of a model version: {error}. Restore it from a backup of the store."
        ) from None
    if name != _name(version.version):
        raise DataError(f"{store.uri(name)} is about v{version.version}. Restore it from a backup of the store.")
    return version


def _remembered(entry: ledger.Entry) -> Version:
    evidence = entry.evidence
    assert evidence is not None and entry.to_version is not None  # the ledger's rule
    known: dict[str, Any] = {"run": evidence.run, "data_through": evidence.data_through, "onnx": evidence.model}
    known |= {"contract": evidence.contract, "gate": evidence.verdict, "policy": evidence.policy, "why": entry.why}
    known |= {"labelled_through": evidence.labelled_through}
    tags = {f"airloop.{name}": value for name, value in known.items() if value is not None}
    return Version(version=entry.to_version, record=None, tags=tags, at=entry.at)
