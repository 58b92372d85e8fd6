"""All garbage of a place: lists first, then marks, so that what is named meanwhile is seen; DVC's objects last."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import pairwise

from tasks.landing import landed_index
from tasks.retention import garbage, roots
from tasks.retention.garbage import DAY, Garbage
from tasks.retention.roots import Marked, models
from tasks.retention.settings import Retention
from tasks.settings.environment import Environment
from tasks.storage import old_store
from tasks.storage.artefacts import Facts, Store
from tasks.versioning.lock_file import read_lock

OBJECT = re.compile(r"files/md5/([0-9a-f]{2})/([0-9a-f]{30}(?:\.dir)?)$")
FOLDERS = ("models", "runs", "state", "online", "checkpoints", "searches", landed_index.CHUNKS)
INDEXES = ("site-cache/repo", "dvc-site/repo")
"""In the home: what DVC remembers of each workspace, by its own setting, and by DVC_SITE_CACHE_DIR of local/env.py."""
SPARED = ("keeping.lock", "restoring")
"""In the home's scratch folder: a backup's or a restore's."""


def find(store: Store, where: Environment, keep: Retention, now: float) -> tuple[list[Garbage], Marked]:
    """What nothing needs any more, and what must stay.

    Every model counts that has a folder in the store, whether or not the checkout still has it: code and data are shared.

    Args:
        store: the artefact store, whole.
        where: names DVC's remote and cache, the home, and the checkout whose own dvc.lock counts too.
        keep: days that things are kept.
        now: epoch seconds.
    """

    def before(days: float) -> float:
        return now - max(days, keep.grace) * DAY

    old_store.refuse(store)
    parts = [store.part(name) for name in models(store)]
    listed = [{folder: part.details(folder) for folder in FOLDERS} for part in parts]
    code = store.details("code")
    objects = [Store(where.remote_url), Store(str(where.cache_dir))]
    held = [(odb, odb.details("files/md5"), odb.details("runs")) for odb in objects]
    home = where.home.resolve()
    marks = [roots.mark(part, before(keep.records), before(keep.data)) for part in parts]
    marked = roots.united(marks)
    marked.workspaces(home / "runs")
    marked.lock(read_lock(where.code))
    for odb, files, _ in held:
        roots.expand(_listings(odb, files, marked), marked)
    return [
        *unfinished(store, before(0)),
        *(
            item
            for part, each, own in zip(parts, listed, marks, strict=True)
            for item in of_store(part, each, own, before, keep)
        ),
        *of_code(store, code, marked, before(0)),
        *garbage.of_entries("workspaces", home / "runs", before(keep.workspaces)),
        *(item for name in INDEXES for item in garbage.of_entries("DVC's index", home / name, before(keep.workspaces))),
        *garbage.of_entries("temporary files", home / "tmp", before(0), SPARED),
        *(found for odb, files, known in held for found in of_dvc(odb, files, known, marked, before, keep)),
    ], marked


def unfinished(store: Store, grace: float) -> Iterator[Garbage]:
    """What writes that were killed before ``grace`` (epoch seconds) have left."""
    left = {name: facts for name, facts in store.unfinished().items() if facts.written < grace}
    yield from garbage.of_names("unfinished writes", store, left, left)


def of_code(store: Store, listed: dict[str, Facts], marked: Marked, grace: float) -> Iterator[Garbage]:
    """Code that no kept run of any model ran."""
    archives = roots.archives(marked)
    gone = [name for name, facts in listed.items() if facts.written < grace and name not in archives]
    yield from garbage.of_names("code", store, listed, gone)


def of_store(
    store: Store,
    listed: dict[str, dict[str, Facts]],
    marked: Marked,
    before: Callable[[float], float],
    keep: Retention,
) -> Iterator[Garbage]:
    """Garbage of a model's part of the artefact store; what names other things comes before them."""
    grace = before(0)
    log = {name: facts for name, facts in listed["online"].items() if not name.startswith("online/states/")}
    yield from garbage.of_folders("prediction log", store, log, 2, lambda _, newest: newest < before(keep.predictions))
    states = {name: facts for name, facts in listed["online"].items() if name not in log}
    old = superseded(states, before(keep.predictions))
    yield from garbage.of_names("states that were logged", store, states, old)
    yield from garbage.of_folders(
        "records of runs", store, listed["runs"], 2, lambda name, newest: newest < grace and name[5:] not in marked.runs
    )
    yield from garbage.of_folders(
        "searches", store, listed["searches"], 2, lambda _, newest: newest < before(keep.records)
    )
    yield from garbage.of_folders(
        "checkpoints", store, listed["checkpoints"], 2, lambda _, newest: newest < before(keep.checkpoints)
    )
    yield from garbage.of_folders(
        "models", store, listed["models"], 2, lambda name, newest: newest < grace and name[7:] not in marked.models
    )
    kept = {name: facts for name, facts in listed["models"].items() if name.split("/")[1] in marked.models}
    yield from garbage.of_folders(
        "models", store, kept, 3, lambda name, newest: newest < grace and name not in marked.records
    )
    named = marked.state | named_by(store, states.keys() - set(old))
    gone = [name for name, facts in listed["state"].items() if facts.written < grace and name not in named]
    yield from garbage.of_names("state of the online service", store, listed["state"], gone)
    chunks = listed[landed_index.CHUNKS]
    merged = [name for name, facts in chunks.items() if facts.written < grace and name not in marked.chunks]
    yield from garbage.of_names("index of landed intervals", store, chunks, merged)


def superseded(states: dict[str, Facts], young: float) -> list[str]:
    """Records of states that another one followed before ``young``: no prediction that is kept was made from them."""
    order = sorted(states, key=lambda name: states[name].written)
    return [name for name, following in pairwise(order) if states[following].written < young]


def named_by(store: Store, states: set[str]) -> set[str]:
    """State files that these records name."""
    found: set[str] = set()
    for name in states:
        found |= set(re.findall(r"state/[^\"\\]+", store.read(name).decode()))
    return found


def of_dvc(
    odb: Store,
    files: dict[str, Facts],
    known: dict[str, Facts],
    marked: Marked,
    before: Callable[[float], float],
    keep: Retention,
) -> Iterator[Garbage]:
    """Garbage of DVC's remote or cache: objects, and what the run cache remembers of old runs."""
    grace = before(0)
    gone = [n for n, facts in files.items() if facts.written < grace and digest_of(n) not in marked.data]
    yield from garbage.of_names("DVC's data", odb, files, gone)
    old = [name for name, facts in known.items() if facts.written < before(keep.records)]
    yield from garbage.of_names("DVC's run cache", odb, known, old)


def digest_of(name: str) -> str | None:
    """md5 of the object with this name, with ``.dir`` for a folder's; None for what is no object, a broken upload say."""
    match = OBJECT.search(name)
    return match[1] + match[2] if match else None


def _listings(odb: Store, files: dict[str, Facts], marked: Marked) -> Iterator[tuple[str, bytes]]:
    for name in files:
        digest = digest_of(name)
        if digest is not None and digest.endswith(".dir") and digest in marked.data:
            yield digest, odb.read(name)
