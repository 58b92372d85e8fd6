"""The landed intervals: which run made each, from what, with which digests."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field, ValidationError, model_validator

from tasks.core.errors import DataError
from tasks.core.frozen import Frozen
from tasks.intervals.cadence import seen_after
from tasks.landing import landed_index
from tasks.landing.landed_index import Item
from tasks.settings.environment import trigger
from tasks.settings.value_types import IntervalKey
from tasks.storage import lists
from tasks.storage.artefacts import Store, sha256, to_json
from tasks.storage.state_file import StateFile

SCHEMA: Literal[2] = 2
"""Version of a record's layout."""


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

    @property
    def tail(self) -> str:
        """md5 of the list of what the next interval sees; of the interval's own tail where an older version landed it."""
        made = {out["path"]: str(out["md5"]) for out in self.lock.get(f"validate@{self.interval}", {}).get("outs", [])}
        return made.get(seen_after(self.interval)) or self.output("validate", f"data/tail/{self.interval}")

    @property
    def labels(self) -> str | None:
        """md5 of the file of labels that landed with it; None where an older version landed it, with them among its features."""
        made = {out["path"]: str(out["md5"]) for out in self.lock.get(f"labels@{self.interval}", {}).get("outs", [])}
        return made.get(f"data/labels/{self.interval}.parquet")

    @property
    def used(self) -> str | None:
        """md5 of the list (or tail) of the interval before that the features were given."""
        used = {dep["path"]: dep.get("md5") for dep in self.lock[f"features@{self.interval}"]["deps"]}
        return used.get(seen_after(self.previous)) or used.get(f"data/tail/{self.previous}")


class Built(Protocol):
    """What says whether an interval fits the one before it: its record, or its item in the index."""

    @property
    def previous(self) -> str:
        """Interval before this one; the interval itself for the first."""

    @property
    def tail(self) -> str | None:
        """md5 of what the next interval is given to look back on."""

    @property
    def used(self) -> str | None:
        """md5 of what this one was given."""

    @property
    def labels(self) -> str | None:
        """md5 of its file of labels; None where an older version landed it."""


class Intervals(Protocol):
    """Landed intervals by key."""

    def __contains__(self, interval: object, /) -> bool:
        """Whether it has landed."""

    def __getitem__(self, interval: str, /) -> Built:
        """What it was built on."""


class Records:
    """The records of a store, each read when it is first asked for: a run needs few of them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._found: dict[str, Landed | None] = {}

    def __contains__(self, interval: object, /) -> bool:
        """Whether it has landed."""
        return isinstance(interval, str) and self._find(interval) is not None

    def __getitem__(self, interval: str, /) -> Landed:
        """Its record; KeyError when it has not landed."""
        if (record := self._find(interval)) is None:
            raise KeyError(interval)
        return record

    def _find(self, interval: str) -> Landed | None:
        if interval not in self._found:
            self._found[interval] = read(self._store, interval)
        return self._found[interval]


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
    """All landed intervals in order: only for what must look at all of history."""
    return {interval: _parse(store, interval, data) for interval, data in _contents(store)}


def items(store: Store) -> Iterator[Item]:
    """What the index must know of each record in the store."""
    numbers = {Path(path).parent.name: int(Path(path).stem) for path in store.names("published")}  # the last one counts
    for interval, data in _contents(store):
        yield _item(_parse(store, interval, data), numbers.get(interval, 0), data)


def _contents(store: Store) -> Iterator[tuple[str, bytes]]:
    for path in store.names("landed"):
        yield path.removeprefix("landed/").removesuffix(".json"), store.read(path)


def _item(record: Landed, number: int, data: bytes) -> Item:
    """What the index knows of an interval, from its record, the number of its publication, and the record's bytes."""
    return Item(
        interval=record.interval, previous=record.previous, number=number, record=sha256(data), features=record.features, labels=record.labels,
        tail=_recorded(lambda: record.tail), used=_recorded(lambda: record.used), state=record.state,
    )  # fmt: skip


def _recorded(look: Callable[[], str | None]) -> str | None:
    try:
        return look()
    except (KeyError, DataError):  # a record whose lock lacks the stage
        return None


def write(store: Store, record: Landed, number: int = 0) -> None:
    """Make ``record``, of the interval's publication ``number``, the interval's record.

    The index has it first: a writer that is killed in between leaves an interval that the index knows and whose record the next
    try writes, rather than a record that no reader of the index ever sees.
    """
    data = to_json(record.model_dump())
    landed_index.add(store, _item(record, number, data))
    store.write(name(record.interval), data)


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
        number, newest = _newest(store, interval)
        if newest is None or number == 0 or _is_settled(store, newest, number):
            return
        write(store, newest, number)


def _is_settled(store: Store, newest: Landed, number: int) -> bool:
    """Whether the index and the interval's record are of the newest publication."""
    known = landed_index.opened(store).get(newest.interval)
    return known is not None and known.number >= number and read(store, newest.interval) == newest


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


def require_fresh(records: Intervals, intervals: Iterable[str]) -> None:
    """DataError unless each of ``intervals`` was built on the previous interval as it has landed now."""
    for interval in intervals:
        if is_stale(records, interval):
            raise DataError(stale_sentence(records, interval))


def require_labels(records: Intervals, intervals: Iterable[str], first: str) -> None:
    """DataError where an older version landed one of ``intervals``, with its labels among its features; ``first`` is the feed's first."""
    for interval in intervals:
        if records[interval].labels is None:
            raise DataError(
                f"An older version landed {interval}, without a file of labels. Take in the feed's first interval again, "
                f"{trigger('ingest', first)}; those after it follow by themselves."
            )


def is_stale(records: Intervals, interval: str) -> bool:
    """Whether the features of ``interval`` were built on another previous interval than has landed now."""
    record = records[interval]
    if record.previous == interval or record.previous not in records:
        return False
    return records[record.previous].tail != record.used


def stale_sentence(records: Intervals, interval: str) -> str:
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
