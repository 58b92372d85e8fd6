"""The landed intervals: which run made each, from what, with which digests."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from tasks.common import lists
from tasks.common.artefacts import Store, to_json
from tasks.common.environment import trigger
from tasks.common.errors import DataError
from tasks.common.frozen import Frozen
from tasks.common.params import IntervalKey

SCHEMA: Literal[2] = 2
"""Version of a record's layout."""


class StateFile(Frozen):
    """One file of the online service's state."""

    name: str
    """Name in the store."""
    sha256: str


class Landed(Frozen, serialize_by_alias=True):
    """One interval, ingested, validated and built into features."""

    schema_: Annotated[Literal[2], Field(alias="schema")] = SCHEMA
    """Version of this layout."""
    interval: IntervalKey
    previous: IntervalKey
    """Interval whose tail the features looked back on; the interval itself for the first."""
    run: str
    manifest: str
    """sha256 of the landing manifest."""
    features: str
    """md5 of the features file, as in dvc.lock: the digest of the interval's data."""
    counts: dict[str, Any]
    """Landed, kept and quarantined rows by table, and reasons."""
    lock: dict[str, Any]
    """The dvc.lock entries of the interval's stages."""
    state: dict[str, StateFile]
    """Table of the state to its file."""

    @model_validator(mode="before")
    @classmethod
    def _older(cls, record: Any) -> Any:
        """Read a record of version 1, which has no schema and calls its interval a month."""
        if isinstance(record, dict) and "month" in record:
            record = {"interval": record["month"], **{name: value for name, value in record.items() if name != "month"}}
        return record

    def output(self, stage: str, path: str) -> str:
        """md5 in the lock of output ``path`` of ``stage`` (without the interval)."""
        for out in self.lock.get(f"{stage}@{self.interval}", {}).get("outs", []):
            if out["path"] == path:
                return str(out["md5"])
        raise DataError(
            f"The record of {self.interval} has no output {path}; run the ingest DAG for {self.interval} again."
        )


def features_digest(path: Path) -> str:
    """md5 of the features file at ``path``, as dvc.lock and the interval's record have it."""
    return lists.digest(path.read_bytes())


def name(interval: str) -> str:
    """Name in the store of the record of ``interval``."""
    return f"landed/{interval}.json"


def read(store: Store, interval: str) -> Landed | None:
    """The record of ``interval``, None when it has not landed."""
    try:
        data = store.read(name(interval))
    except FileNotFoundError:
        return None
    return _parse(store, interval, data)


def read_all(store: Store) -> dict[str, Landed]:
    """All landed intervals in order."""
    found = {}
    for path in store.names("landed"):
        interval = path.removeprefix("landed/").removesuffix(".json")
        found[interval] = _parse(store, interval, store.read(path))
    return found


def write(store: Store, record: Landed) -> None:
    """Make ``record`` the interval's record, in one step."""
    store.write(name(record.interval), to_json(record.model_dump()))


def publish(store: Store, record: Landed, current: Callable[[], str]) -> bool:
    """Make ``record`` its interval's record, unless newer data were published; False when it is superseded (docs/adr/0038).

    Args:
        store: where records are.
        record: of data that landed with the manifest ``record.manifest``.
        current: gives the digest of the manifest that lies in the landing zone now.
    """
    while True:
        number, newest = _newest(store, record.interval)
        if newest == record:
            break  # a try of this run came that far
        if newest is not None and current() != record.manifest:
            settle(store, record.interval)
            return False
        if store.create(_publication(record.interval, number + 1), to_json(record.model_dump())):
            break
    settle(store, record.interval)
    return True


def settle(store: Store, interval: str) -> None:
    """Make the interval's record the newest that was published, whoever writes at the same time."""
    while True:
        _, newest = _newest(store, interval)
        if newest is None or read(store, interval) == newest:
            return
        write(store, newest)


def _newest(store: Store, interval: str) -> tuple[int, Landed | None]:
    """The number and the record of the interval's newest publication; 0 and the current record where there is none."""
    names = store.names(f"published/{interval}")
    if not names:
        return 0, read(store, interval)
    return int(Path(names[-1]).stem), _parse(store, interval, store.read(names[-1]), names[-1])


def _publication(interval: str, number: int) -> str:
    return f"published/{interval}/{number:06d}.json"


def how_to_land(interval: str) -> str:
    """The way to land ``interval``, in a sentence."""
    return f"Land it, then run the ingest DAG for it: {trigger('ingest', interval)}."


def require_fresh(records: Mapping[str, Landed], intervals: Iterable[str]) -> None:
    """DataError unless each of ``intervals`` was built on the previous interval as it has landed now."""
    for interval in intervals:
        if is_stale(records, interval):
            raise DataError(stale_sentence(records, interval))


def is_stale(records: Mapping[str, Landed], interval: str) -> bool:
    """Whether the features of ``interval`` were built on another previous interval than has landed now."""
    record = records[interval]
    if record.previous == interval or record.previous not in records:
        return False
    made = {out["path"]: out["md5"] for out in records[record.previous].lock[f"validate@{record.previous}"]["outs"]}
    return any(
        made.get(dep["path"], dep.get("md5")) != dep.get("md5") for dep in record.lock[f"features@{interval}"]["deps"]
    )


def stale_sentence(records: Mapping[str, Landed], interval: str) -> str:
    """Says so, with the way out."""
    return (
        f"The features of {interval} were built on another {records[interval].previous} than has landed now. Run "
        f"{trigger('ingest', interval)} to build them again."
    )


def _parse(store: Store, interval: str, data: bytes, path: str = "") -> Landed:
    try:
        return Landed.model_validate(json.loads(data))
    except (ValidationError, ValueError) as error:
        raise DataError(
            f"{store.uri(path or name(interval))} cannot be read ({error}); run the ingest DAG for {interval} again."
        ) from None
