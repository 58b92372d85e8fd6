"""The index of landed intervals: what readers of many intervals need, behind one small pointer (docs/adr/0061).

index/log/00000042.json       one landing, in the order in which they were entered; created exclusively, never changed
index/chunks/<sha256>.json  a stretch of older intervals; never changed
index/head.json               the pointer: every landing up to a number of the log, the newest intervals whole, the others by chunk

The log is the truth. The head may be behind it, so whoever reads the head goes on with the log from there.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from tasks.core.errors import DataError
from tasks.core.frozen import Frozen
from tasks.settings.value_types import IntervalKey
from tasks.storage.artefacts import Store, sha256, to_json
from tasks.storage.state_file import StateFile

FOLDER = "index"
HEAD = f"{FOLDER}/head.json"
LOG = f"{FOLDER}/log"
CHUNKS = f"{FOLDER}/chunks"
SCHEMA: Literal[1] = 1
"""Version of the head's layout."""
IN_HEAD = 24
"""Newest intervals that the head holds whole; it is compacted when it holds twice as many."""
IN_CHUNK = 1000
"""Most intervals of a chunk."""


class Item(Frozen):
    """What the index knows of one landed interval; its record has the rest."""

    interval: IntervalKey
    previous: IntervalKey
    """Interval whose tail the features looked back on; the interval itself for the first."""
    number: int
    """Of the interval's publication; 0 where an older version of Airloop published it."""
    record: str
    """sha256 of the interval's record."""
    features: str
    """md5 of the features file."""
    tail: str | None
    """md5 of the list of what the next interval sees (tasks/intervals/lookback.py),"""
    used: str | None
    """and of the list that its own features were given; null where the record has none."""
    state: dict[str, StateFile]
    """Table of the online service's state to its file."""
    labels: str | None = None
    """md5 of the file of labels; null where an older version landed the interval, with them among its features."""

    def replaces(self, other: Item | None) -> bool:
        """Whether this is to take the place of ``other``."""
        return other is None or self.number >= other.number


_ITEMS = TypeAdapter(tuple[Item, ...])


class Chunk(Frozen):
    """A stretch of intervals in a file of their own."""

    first: IntervalKey
    last: IntervalKey
    count: int
    sha256: str

    @property
    def name(self) -> str:
        """Name in the store."""
        return f"{CHUNKS}/{self.sha256}.json"


class Head(Frozen, serialize_by_alias=True):
    """The whole index at one number of its log."""

    schema_: Annotated[Literal[1], Field(alias="schema")] = SCHEMA
    """Version of this layout."""
    entered: int
    """Number of the last landing in the log that it holds."""
    count: int
    """How many intervals there are."""
    chunks: tuple[Chunk, ...] = ()
    """In order; no two overlap."""
    newest: tuple[Item, ...] = ()
    """In order: the newest intervals, and what has landed since the last compaction, which counts before what a chunk says."""


class Index:
    """The landed intervals at one moment; a chunk is read when it is asked for.

    Args:
        store: a model's part of the artefact store.
        head: the index.
        content: bytes of the head's file from which it comes; None where the store has none.
    """

    def __init__(self, store: Store, head: Head, content: bytes | None) -> None:
        self.head = head
        self.content = content
        self._store = store
        self._newest = {item.interval: item for item in head.newest}

    def __len__(self) -> int:
        """How many intervals have landed."""
        return self.head.count

    def __contains__(self, interval: object) -> bool:
        """Whether it has landed."""
        return isinstance(interval, str) and self.get(interval) is not None

    def __getitem__(self, interval: str) -> Item:
        """What is known of ``interval``; KeyError when it has not landed."""
        if (found := self.get(interval)) is None:
            raise KeyError(interval)
        return found

    def get(self, interval: str) -> Item | None:
        """What is known of ``interval``, None when it has not landed."""
        if interval in self._newest:
            return self._newest[interval]
        return next(iter(self.between(interval, interval)), None)

    @property
    def newest(self) -> str | None:
        """The last interval that has landed, None when none has."""
        return self.head.newest[-1].interval if self.head.newest else None

    def between(self, first: str, last: str) -> list[Item]:
        """Landed intervals from ``first`` to ``last``, both included, in order."""
        found: dict[str, Item] = {}
        for chunk in self.head.chunks:
            if chunk.first <= last and first <= chunk.last:
                found |= {item.interval: item for item in _load(self._store, chunk)}
        found |= self._newest
        return [found[key] for key in sorted(found) if first <= key <= last]

    def last(self, count: int, before: str | None = None) -> list[Item]:
        """The last ``count`` landed intervals (of those before ``before``), in order."""
        found = {key: item for key, item in self._newest.items() if before is None or key < before}
        for chunk in reversed(self.head.chunks):
            chosen = sorted(found)[-count:]
            if len(chosen) == count and chosen[0] > chunk.last:
                break
            if before is None or chunk.first < before:
                older = {i.interval: i for i in _load(self._store, chunk) if before is None or i.interval < before}
                found = older | found
        return [found[key] for key in sorted(found)[-count:]]

    def __iter__(self) -> Iterator[Item]:
        """Each landed interval in order: only for what must look at all of history."""
        return iter(self.between("", "~"))  # every key sorts between them

    def plus(self, item: Item) -> Index:
        """The index with the landing that the log has next."""
        old, newest = self.get(item.interval), self._newest
        if item.replaces(old):
            newest = {**newest, item.interval: item}
        head = self.head.model_copy(
            update={
                "entered": self.head.entered + 1,
                "count": self.head.count + (old is None),
                "newest": tuple(newest[key] for key in sorted(newest)),
            }
        )
        return Index(self._store, head, self.content)


def read(store: Store, known: Index | None = None) -> Index:
    """The index as it is now; writes nothing.

    Args:
        store: a model's part of the artefact store.
        known: what was read of it before, which is returned where nothing has landed since.

    Raises:
        DataError: it is damaged, or of a newer version of Airloop.
    """
    try:
        content = store.read(HEAD)
    except FileNotFoundError:
        return Index(store, _from_records(store), None)
    if known is None or content != known.content:
        try:
            known = Index(store, Head.model_validate_json(content), content)
        except ValidationError as error:
            raise _damaged(store, HEAD, str(error)) from None
    while (item := _logged(store, known.head.entered + 1)) is not None:
        known = known.plus(item)
    return known


def opened(store: Store, known: Index | None = None) -> Index:
    """``read`` where one may write: a store of an older version gets its index."""
    index = read(store, known)
    if index.content is None:
        store.create(HEAD, _content(_compacted(store, index.head)))
        index = read(store)
    return index


def add(store: Store, item: Item) -> None:
    """Enter a landing, whoever else enters one at the same moment; nothing happens when it, or a newer one, is there."""
    index = opened(store)
    while not _has(index, item):
        if store.create(_log_name(index.head.entered + 1), to_json(item.model_dump())):
            index = index.plus(item)
        else:
            index = read(store, index)
    content = _content(_compacted(store, index.head))
    if content != index.content:
        store.write(HEAD, content)


def _has(index: Index, item: Item) -> bool:
    found = index.get(item.interval)
    return found is not None and (found == item or not item.replaces(found))


def _content(head: Head) -> bytes:
    return to_json(head.model_dump())


def _log_name(number: int) -> str:
    return f"{LOG}/{number:08d}.json"


def _logged(store: Store, number: int) -> Item | None:
    """The landing with this number in the log, None when there have not been as many."""
    try:
        content = store.read(_log_name(number))
    except FileNotFoundError:
        return None
    try:
        return Item.model_validate_json(content)
    except ValidationError as error:
        raise _damaged(store, _log_name(number), str(error)) from None


def _from_records(store: Store) -> Head:
    """The index of a store that has none yet, or lost its head: reads every record."""
    from tasks.landing import landed  # it needs the types here

    entered = len(store.names(LOG))  # before the records, of which the newest may not be written yet
    found = {item.interval: item for item in landed.items(store)}
    for number in range(1, entered + 1):
        item = _logged(store, number)
        if item is not None and item.replaces(found.get(item.interval)):
            found[item.interval] = item
    return Head(entered=entered, count=len(found), newest=tuple(found[key] for key in sorted(found)))


def _compacted(store: Store, head: Head) -> Head:
    """``head`` with all but its newest intervals in chunks, once it holds twice as many as it should."""
    if len(head.newest) <= 2 * IN_HEAD:
        return head
    older, newest = head.newest[:-IN_HEAD], head.newest[-IN_HEAD:]
    chunks: list[Chunk] = []
    for number, chunk in enumerate(head.chunks or (None,)):
        following = head.chunks[number + 1].first if number + 1 < len(head.chunks) else None
        start = chunk.first if chunk and number else ""
        own = [item for item in older if start <= item.interval and (following is None or item.interval < following)]
        chunks += _merged(store, chunk, own, last=following is None)
    return head.model_copy(update={"chunks": tuple(chunks), "newest": newest})


def _merged(store: Store, chunk: Chunk | None, items: list[Item], *, last: bool) -> list[Chunk]:
    """``chunk`` with ``items``, in as many chunks as they fill: the last one grows, any other is halved."""
    if chunk is not None and not items:
        return [chunk]
    found = {item.interval: item for item in (*(_load(store, chunk) if chunk else ()), *items)}
    ordered = [found[key] for key in sorted(found)]
    size = IN_CHUNK if last else ceil(len(ordered) / ceil(len(ordered) / IN_CHUNK))
    return [_put(store, ordered[start : start + size]) for start in range(0, len(ordered), size)]


def _put(store: Store, items: list[Item]) -> Chunk:
    content = to_json([item.model_dump() for item in items])
    chunk = Chunk(
        first=items[0].interval, last=items[-1].interval, count=len(items), sha256=sha256(content)
    )  # fmt: skip
    store.write(chunk.name, content)  # again where it is there: a clean-up looks at when it was written
    return chunk


def _load(store: Store, chunk: Chunk) -> tuple[Item, ...]:
    try:
        return _ITEMS.validate_json(store.read(chunk.name, chunk.sha256))
    except FileNotFoundError:
        raise _damaged(store, chunk.name, "it is missing") from None
    except (ValidationError, DataError) as error:
        raise _damaged(store, chunk.name, str(error)) from None


def _damaged(store: Store, name: str, what: str) -> DataError:
    return DataError(
        f"{store.uri(name)}, of the index of landed intervals, cannot be read: {what}. Delete the folder {store.uri(FOLDER)} "
        "while nothing lands: it is built again from the records."
    )
