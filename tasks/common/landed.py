"""The landed months as they stand: which run made each, from what, with which digests."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tasks.common.artefacts import Store, to_json
from tasks.common.errors import DataError
from tasks.common.params import Frozen, Month


class StateFile(Frozen):
    """One file of the online service's state."""

    name: str
    """Name in the store."""
    sha256: str


class Landed(Frozen):
    """One month, ingested, validated and built into features."""

    month: Month
    previous: Month
    """Month whose tail the features looked back on; the month itself for the first."""
    run: str
    manifest: str
    """sha256 of the landing manifest."""
    features: str
    """md5 of the features file, as in dvc.lock: the digest of the month's data."""
    counts: dict[str, Any]
    """Landed, kept and quarantined rows by table, and reasons."""
    lock: dict[str, Any]
    """The dvc.lock entries of the month's stages."""
    state: dict[str, StateFile]
    """Table ("flights", "weather") to its state file."""

    def output(self, stage: str, path: str) -> str:
        """md5 in the lock of output ``path`` of ``stage`` (without the month)."""
        for out in self.lock[f"{stage}@{self.month}"]["outs"]:
            if out["path"] == path:
                return str(out["md5"])
        raise DataError(f"The record of {self.month} has no output {path}; run the ingest DAG for {self.month} again.")


def features_digest(path: Path) -> str:
    """md5 of the features file at ``path``, as dvc.lock and the month's record have it."""
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def name(month: str) -> str:
    """Name in the store of the record of ``month``."""
    return f"landed/{month}.json"


def read(store: Store, month: str) -> Landed | None:
    """The record of ``month``, None when it has not landed."""
    try:
        data = store.read(name(month))
    except FileNotFoundError:
        return None
    return _parse(store, month, data)


def read_all(store: Store) -> dict[str, Landed]:
    """All landed months in order."""
    found = {}
    for path in store.names("landed"):
        month = path.removeprefix("landed/").removesuffix(".json")
        found[month] = _parse(store, month, store.read(path))
    return found


def write(store: Store, record: Landed) -> None:
    """Make ``record`` the month's record, in one step."""
    store.write(name(record.month), to_json(record.model_dump()))


def require_consistent(records: dict[str, Landed], months: list[str]) -> None:
    """DataError unless all ``months`` have landed, each built on the previous month as it stands now."""
    missing = [month for month in months if month not in records]
    if missing:
        raise DataError(
            f"{', '.join(missing)} has not landed. Land it, then run the ingest DAG for it: "
            f'airflow dags trigger ingest -c \'{{"month": "{missing[0]}"}}\'.'
        )
    for month in months:
        if is_stale(records, month):
            raise DataError(stale_sentence(records, month))


def is_stale(records: dict[str, Landed], month: str) -> bool:
    """Whether the features of ``month`` were built on another previous month than has landed now."""
    record = records[month]
    if record.previous == month or record.previous not in records:
        return False
    tail = f"data/tail/{record.previous}"
    used = {dep["path"]: dep.get("md5") for dep in record.lock[f"features@{month}"]["deps"]}
    return records[record.previous].output("validate", tail) != used.get(tail)


def stale_sentence(records: dict[str, Landed], month: str) -> str:
    """Says so, with the way out."""
    return (
        f"The features of {month} were built on another {records[month].previous} than has landed now. Run "
        f'airflow dags trigger ingest -c \'{{"month": "{month}"}}\' to build them again.'
    )


def _parse(store: Store, month: str, data: bytes) -> Landed:
    try:
        return Landed.model_validate(json.loads(data))
    except (ValidationError, ValueError) as error:
        raise DataError(
            f"{store.uri(name(month))} cannot be read ({error}); run the ingest DAG for {month} again."
        ) from None
