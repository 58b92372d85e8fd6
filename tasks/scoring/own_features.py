"""Which features a version is scored on: those that landed with the interval, or its own where the landed ones were made otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks import spec
from tasks.common import params, settings_files, version_features
from tasks.common.dvc_repo import Project, read_lock
from tasks.common.environment import trigger
from tasks.common.errors import DataError
from tasks.common.files import parquet_bytes, write_folder
from tasks.common.landed import Landed
from tasks.running import stage_run
from tasks.spec import Settings

FOLDER = f"{stage_run.NOTES}/own"
"""Folder of the workspace in which versions' own features are made; each try makes them again."""


def landed_with(record: Landed) -> Settings | None:
    """The settings that the landed features were made with; None where the record does not say, or the code cannot read them."""
    model = spec.current().name
    settings = record.lock.get(f"features@{record.interval}", {}).get("params", {})
    for file in (settings_files.of_model(model), settings_files.SHARED):
        if file in settings:
            try:
                return version_features.typed(settings[file], model, f"The record of {record.interval}")
            except DataError:
                return None
    return None


def needed(names: Sequence[str], own: Settings | None, landed: Settings | None, file: Path) -> Settings | None:
    """Choose what to score a version on: its own features if these, of the landed ones, are absent or made with other settings.

    Args:
        names: the version's features.
        own: the settings of its training; None where they are not recorded.
        landed: those of the landed features, likewise.
        file: the landed features.

    Returns:
        The settings to make the version's own features with; None where the landed ones are the same.
    """
    absent = set(names) - set(pq.read_schema(file).names)
    if not absent and own in (None, landed):
        return None
    return own or params.load().features


def prepare(record: Landed, settings: Settings, root: Path, folder: Path) -> None:
    """Bring what the features of an interval are made of to ``folder``: its kept tables, and the tail that these settings see.

    Args:
        record: of the landed interval.
        settings: those of the version.
        root: the workspace, which keeps what it fetches.
        folder: where the features are to be made; the stage's folder ``data`` in small.

    Raises:
        DataError: the workspace is of an interval that has landed again since, or of an older version of Airloop.
    """
    interval, before = record.interval, record.previous
    _fetch(record, root)
    kept = folder / "kept" / interval
    kept.parent.mkdir(parents=True)
    kept.symlink_to((root / "data/kept" / interval).resolve(), target_is_directory=True)
    if before == interval:
        return
    model = spec.current()
    tables = {name: pq.read_table(root / f"data/kept/{before}/{name}.parquet") for name in model.tables}
    # By the hook and not from data/tail, which holds as much as the settings of its time asked for.
    tails = {name: model.tail(table, name, before, settings) for name, table in tables.items()}
    write_folder(folder / "tail" / before, _files(tails))


def _files(tables: dict[str, pa.Table]) -> dict[str, bytes]:
    return {f"{name}.parquet": parquet_bytes(table) for name, table in tables.items()}


def _fetch(record: Landed, root: Path) -> None:
    """Bring the kept tables of the interval and of the one before it into the workspace, as its features were made of them."""
    wanted = [f"validate@{interval}" for interval in sorted({record.previous, record.interval})]
    lock = read_lock(root)
    if any(item not in lock for item in wanted) or _made_of(record, lock) != _made_of(record, record.lock):
        raise DataError(
            f"This run does not have the rows that the features of {record.interval} were made of, which a version with settings of its "
            f"own needs. Begin a new one: {trigger('score', record.interval)}."
        )
    with closing(Project(root)) as project:
        stage_run.fetch(project, root, wanted)


def _made_of(record: Landed, lock: dict[str, Any]) -> dict[str, str]:
    """Digests of the rows, kept and of the tail before, that a lock has for the interval's features."""
    outs = {out["path"]: out["md5"] for entry in lock.values() for out in entry["outs"]}
    deps = {dep["path"]: dep["md5"] for dep in record.lock[f"features@{record.interval}"]["deps"]}
    rows = (f"data/kept/{record.interval}", f"data/tail/{record.previous}")
    return {path: outs.get(path, deps[path]) for path in rows}
