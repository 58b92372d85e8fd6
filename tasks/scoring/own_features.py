"""Which features a version is scored on: those that landed with the interval, or its own where the landed ones were made otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tasks import spec
from tasks.core.errors import DataError
from tasks.landing import landed
from tasks.landing.landed import Landed
from tasks.registry import version_features
from tasks.running import stage_run
from tasks.settings import params, settings_files
from tasks.spec import Settings
from tasks.storage.artefacts import Store
from tasks.storage.files import parquet_bytes, write_folder
from tasks.versioning.project import Project

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


def prepare(record: Landed, settings: Settings, root: Path, folder: Path, source: Store) -> list[str]:
    """Bring what the features of an interval are made of to ``folder``: its kept tables, and the tails that these settings see.

    Args:
        record: of the landed interval.
        settings: those of the version.
        root: the workspace, which keeps what it fetches.
        folder: where the features are to be made; the stage's folder ``data`` in small.
        source: the model's part of the store.

    Returns:
        The intervals whose tails are there.

    Raises:
        DataError: an interval has landed again since the features of this one were made, or was landed by an older version.
    """
    interval = record.interval
    before = _seen(record, settings, source)
    _fetch([*before, record], root)
    kept = folder / "kept" / interval
    kept.parent.mkdir(parents=True)
    kept.symlink_to((root / "data/kept" / interval).resolve(), target_is_directory=True)
    model = spec.current()
    for each in before:
        tables = {name: pq.read_table(root / f"data/kept/{each.interval}/{name}.parquet") for name in model.tables}
        # By the hook and not from data/tail, which holds as much as the settings of its time asked for.
        tails = {name: model.tail(table, name, each.interval, settings) for name, table in tables.items()}
        write_folder(folder / "tail" / each.interval, _files(tails))
    return [each.interval for each in before]


def _files(tables: dict[str, pa.Table]) -> dict[str, bytes]:
    return {f"{name}.parquet": parquet_bytes(table) for name, table in tables.items()}


def _seen(record: Landed, settings: Settings, source: Store) -> list[Landed]:
    """The intervals that the settings' look-back reaches, oldest first, as they have landed."""
    if record.previous == record.interval:
        return []
    cadence = spec.current().cadence
    oldest = cadence.back(record.interval, settings.lookback)
    keys = cadence.span(max(oldest, spec.current().first), record.previous)
    found = {key: each for key in keys if (each := landed.read(source, key)) is not None}
    landed.require_fresh({**found, record.interval: record}, [*found, record.interval])
    return list(found.values())


def _fetch(records: Sequence[Landed], root: Path) -> None:
    """Bring the kept tables of these intervals into the workspace."""
    wanted = {path: record.output("validate", path) for record in records for path in [f"data/kept/{record.interval}"]}
    with closing(Project(root)) as project:
        project.bring(wanted)
