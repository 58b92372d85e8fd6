"""A run: code revision, settings and dvc.lock, in a workspace of its own; its record in the store replays it."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from tasks.core.errors import ConfigError
from tasks.core.frozen import Frozen
from tasks.settings import code, policy, settings_files
from tasks.settings.environment import environment
from tasks.storage.artefacts import Store, to_json, write_atomic
from tasks.versioning.lock_file import LOCK, lock_bytes, parse_lock, read_lock, write_lock
from tasks.versioning.new_project import DVC_RUNNING, initialise

RECORD = "run.json"
SCHEMA: Literal[2] = 2
"""Version of its layout."""


@dataclass(frozen=True)
class Span:
    """What a run is about: a model, and the intervals of its feed from ``first`` to ``last``."""

    model: str
    first: str
    last: str


@dataclass(frozen=True)
class Request:
    """What somebody asked a run to do."""

    key: str
    """Name of the run, its workspace and its record: no colons, since Hadoop paths reject them."""
    span: Span
    window: str
    """Intervals that it needs (tasks.running.windows)."""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """Settings that differ from the checkout's, by dotted name."""
    reason: str = ""
    """Why, where a person said so."""
    exploratory: bool = False
    """Whether it may have another policy; such a run registers nothing."""


class Run(Frozen, serialize_by_alias=True):
    """The record of a run: what was asked for, and with which code."""

    schema_: Annotated[Literal[2], Field(alias="schema")] = SCHEMA
    """Version of this layout."""
    opened: str = ""
    """Random id of this beginning of the run: a run that is cleared and starts again has the same key."""
    key: str
    model: str
    first: str
    """First interval of the run's span."""
    last: str
    """Last interval of the run's span; for training, the last one it sees."""
    window: str = ""
    """Intervals that it needs (tasks.running.windows); empty in records of older versions."""
    overrides: dict[str, Any]
    """Settings that differ from the checkout's, by dotted name."""
    reason: str = ""
    """Why it was asked for, where a person said so."""
    exploratory: bool = False
    """Whether its policy may differ from the checkout's, so that nothing of it may be registered."""
    code: code.Code

    @model_validator(mode="before")
    @classmethod
    def _older(cls, record: Any) -> Any:
        """Read a record of version 1, which has no schema, names its DAG and one month, and no model: there was one."""
        if isinstance(record, dict) and "month" in record:
            record = {"model": environment().model} | {name: value for name, value in record.items() if name != "dag"}
            record["first"] = record["last"] = record.pop("month")
        return record


def workspace(key: str) -> Path:
    """Folder of run ``key``."""
    return environment().home.resolve() / "runs" / key


def open_run(request: Request, store: Store, *, begins: bool = False) -> Path:
    """Make the workspace of a run, or find it as an earlier task or try left it, here or on another machine.

    Args:
        request: what was asked for.
        store: where runs are recorded.
        begins: whether this is the run's first task, which begins it with the present code, settings and landed
            intervals; every later task keeps those.

    Returns:
        The workspace.

    Raises:
        ConfigError: a setting is wrong.
        Unavailable: an interval that the run needs has not landed.
        DataError: an interval that it needs is stale.
    """
    root = workspace(request.key)
    record = f"runs/{request.key}/{RECORD}"
    if not begins and store.exists(record):
        if not (root / RECORD).exists() or (root / RECORD).read_bytes() != store.read(record):
            _restore(root, request.key, store)
        _take(root, request.key, store)
    else:
        _create(root, request, store)
        save_record(root, store)
    return root


def _create(root: Path, request: Request, store: Store) -> None:
    from tasks.landing import landed
    from tasks.running.windows import window
    from tasks.settings import params

    source = environment().code
    span = request.span
    if not request.exploratory:
        policy.require_proposals(request.overrides)
    raw = settings_files.read(source, span.model)
    for setting, value in request.overrides.items():
        _override(raw, setting, value)
    records = landed.Records(store)
    calendar = settings_files.calendar_of(source, span.model)
    raw |= {"model": span.model, "intervals": calendar.cadence.window([span.last])}
    settings = params.parse(raw, " with this run's overrides")
    before = (calendar.cadence.shift(span.first, -n) for n in range(1, settings.monitor.window_intervals))
    judged = [
        key for key in before if key in records and not landed.is_stale(records, key)
    ]  # others count once they are again
    reference = [*settings.golden.intervals, *judged]
    wanted = window(request.window, span.first, span.last, records, calendar, reference)
    raw["intervals"] = calendar.cadence.window(wanted)

    if root.exists():
        shutil.rmtree(root)
    root.mkdir(parents=True)
    code.copy(source, root, span.model)
    settings_files.write(root, raw)
    write_lock(
        root, {stage: entry for m in raw["intervals"] if m in records for stage, entry in records[m].lock.items()}
    )
    _initialise(root)
    identity = code.identify(source, span.model)
    code.archive(root, identity, store, span.model)
    run = Run(
        opened=uuid.uuid4().hex,
        key=request.key,
        model=span.model,
        first=span.first,
        last=span.last,
        window=request.window,
        overrides=dict(request.overrides),
        reason=request.reason,
        exploratory=request.exploratory,
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
    _initialise(root)
    write_atomic(root / RECORD, record)


def _take(root: Path, key: str, store: Store) -> None:
    """Make dvc.lock and the settings, which a search may have chosen, those that were recorded, here or elsewhere.

    DVC writes its files in place, so a task that was killed may have left half of one. What it did and did not record
    is in the run cache.
    """
    for name in settings_files.recorded(read_run(root).model):
        _take_settings(root / name, f"runs/{key}/{name}", store)
    write_atomic(root / LOCK, store.read(f"runs/{key}/{LOCK}"))
    (root / DVC_RUNNING).unlink(missing_ok=True)  # one task at a time works here, so whoever it names has ended


def _take_settings(path: Path, name: str, store: Store) -> None:
    """Make a file of settings what was recorded; the record of an older version has params.yaml only."""
    content = _stored(name, store)
    if content is None:
        return
    if not path.exists() or content != path.read_bytes():
        write_atomic(path, content)


def _stored(name: str, store: Store) -> bytes | None:
    try:
        return store.read(name)
    except FileNotFoundError:
        return None


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
        kept = {**parse_lock(store.read(f"runs/{key}/{LOCK}")), **{name: kept[name] for name in stages}}
    store.write(f"runs/{key}/{LOCK}", lock_bytes(kept))
    for name in (RECORD, *settings_files.present(root), "dvc.yaml"):
        content = (root / name).read_bytes()
        if content != _stored(f"runs/{key}/{name}", store):
            store.write(f"runs/{key}/{name}", content)


def forget(root: Path, store: Store, stages: Iterable[str]) -> None:
    """Take stages out of the run's dvc.lock, here and in its record: what it has of them is older than what it was to make."""
    name, gone = f"runs/{read_run(root).key}/{LOCK}", set(stages)
    recorded = parse_lock(store.read(name)) if store.exists(name) else {}
    here = read_lock(root)
    if gone & here.keys():
        write_lock(root, {stage: entry for stage, entry in here.items() if stage not in gone})
    if gone & recorded.keys():
        store.write(name, lock_bytes({stage: entry for stage, entry in recorded.items() if stage not in gone}))


def landed_lock(root: Path, interval: str) -> dict[str, Any]:
    """Entries of ``root``'s dvc.lock that belong to ``interval``."""
    return {stage: entry for stage, entry in read_lock(root).items() if stage.endswith(f"@{interval}")}


def _override(raw: dict[str, Any], setting: str, value: Any) -> None:
    """Set the dotted ``setting`` in parsed YAML; ConfigError if there is no such setting."""
    *path, last = setting.split(".")
    node: Any = raw
    for part in path:
        node = node.get(part) if isinstance(node, dict) else None
    if not isinstance(node, dict) or last not in node:
        raise ConfigError(
            f"{setting}={value!r} names no setting; look in params.yaml and in the model's own for its dotted name."
        )
    node[last] = value
