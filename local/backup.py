"""`airloop backup FOLDER`: ledger, store, DVC's remote, MLflow and the databases of one machine, copied while they are used."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from local import databases, kept
from local.env import environment, place
from local.errors import LocalError
from local.kept import Content, Part


def backup(target: Path) -> None:
    """Copy everything that cannot be made again to the new folder ``target``, which appears when it is whole.

    Raises:
        LocalError: the folder is taken or lies in what is copied, or something cannot be copied.
    """
    home = place().home
    parts = kept.parts(home, environment())
    target = target.absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise LocalError(f"{target} is not empty, and a backup is never mixed with other files; name a new folder.")
    if any(target.is_relative_to(part.path) for part in parts):
        raise LocalError(f"{target} lies in a folder that is copied; name one outside {home}.")
    partial = target.with_name(f".{target.name}.partial")
    with kept.alone(home):
        shutil.rmtree(partial, ignore_errors=True)
        try:
            partial.mkdir(parents=True, mode=0o700)  # it holds the home's secrets
            _copy_all(home, parts, partial)
            if target.exists():
                target.rmdir()
            partial.rename(target)
        except OSError as error:
            raise LocalError(
                f"The backup could not be written to {target}: {error}. Make room, or name another disk."
            ) from None
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    print(f"{target} holds the backup; `airloop restore {target}` puts it into an empty home.")


def _copy_all(home: Path, parts: list[Part], partial: Path) -> None:
    (partial / "databases").mkdir()
    copies = databases.copy(home, partial / "databases")
    found = {file.relative_to(partial).as_posix(): kept.measure(file) for file in copies}
    progress = kept.Progress()
    progress.done("databases", [*found.values()])
    for part in parts:
        found |= _copy(part, partial, progress)
    packages = {name: version(name) for name in ("apache-airflow-core", "mlflow")}
    kept.write_manifest(partial, found, {"at": datetime.now(UTC).isoformat(timespec="seconds"), **packages})


def _copy(part: Part, partial: Path, progress: kept.Progress) -> dict[str, Content]:
    found: dict[str, Content] = {}
    for name, path in kept.files(part):
        try:
            found[name] = kept.copy(path, partial / name)
        except FileNotFoundError:  # a checkpoint, say, that was done with since it was listed
            if not partial.exists():
                raise
            continue
        progress.at_work(part.name, [*found.values()])
    progress.done(part.name, [*found.values()])
    return found
