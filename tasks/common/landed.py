"""The landed months as they stand: which run made each, from what, with which digests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tasks.common.artefacts import Store, to_json
from tasks.common.environment import trigger
from tasks.common.errors import DataError
from tasks.common.frozen import Frozen
from tasks.common.params import Month


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
    """Table of the state to its file."""

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


def publish(store: Store, record: Landed, current: Callable[[], str]) -> bool:
    """Make ``record`` its month's record, unless newer data were published; False when it is superseded (docs/adr/0038).

    Args:
        store: where records are.
        record: of data that landed with the manifest ``record.manifest``.
        current: gives the digest of the manifest that lies in the landing zone now.
    """
    while True:
        number, newest = _newest(store, record.month)
        if newest == record:
            break  # a try of this run came that far
        if newest is not None and current() != record.manifest:
            settle(store, record.month)
            return False
        if store.create(_publication(record.month, number + 1), to_json(record.model_dump())):
            break
    settle(store, record.month)
    return True


def settle(store: Store, month: str) -> None:
    """Make the month's record the newest that was published, whoever writes at the same time."""
    while True:
        _, newest = _newest(store, month)
        if newest is None or read(store, month) == newest:
            return
        write(store, newest)


def _newest(store: Store, month: str) -> tuple[int, Landed | None]:
    """The number and the record of the month's newest publication; 0 and the record as it stands where there is none."""
    names = store.names(f"published/{month}")
    if not names:
        return 0, read(store, month)
    return int(Path(names[-1]).stem), _parse(store, month, store.read(names[-1]), names[-1])


def _publication(month: str, number: int) -> str:
    return f"published/{month}/{number:06d}.json"


def how_to_land(month: str) -> str:
    """The way to land ``month``, in a sentence."""
    return f"Land it, then run the ingest DAG for it: {trigger('ingest', month)}."


def require_fresh(records: Mapping[str, Landed], months: Iterable[str]) -> None:
    """DataError unless each of ``months`` was built on the previous month as it has landed now."""
    for month in months:
        if is_stale(records, month):
            raise DataError(stale_sentence(records, month))


def is_stale(records: Mapping[str, Landed], month: str) -> bool:
    """Whether the features of ``month`` were built on another previous month than has landed now."""
    record = records[month]
    if record.previous == month or record.previous not in records:
        return False
    tail = f"data/tail/{record.previous}"
    used = {dep["path"]: dep.get("md5") for dep in record.lock[f"features@{month}"]["deps"]}
    return records[record.previous].output("validate", tail) != used.get(tail)


def stale_sentence(records: Mapping[str, Landed], month: str) -> str:
    """Says so, with the way out."""
    return (
        f"The features of {month} were built on another {records[month].previous} than has landed now. Run "
        f"{trigger('ingest', month)} to build them again."
    )


def _parse(store: Store, month: str, data: bytes, path: str = "") -> Landed:
    try:
        return Landed.model_validate(json.loads(data))
    except (ValidationError, ValueError) as error:
        raise DataError(
            f"{store.uri(path or name(month))} cannot be read ({error}); run the ingest DAG for {month} again."
        ) from None
