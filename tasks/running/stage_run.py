"""One stage of a run, from its inputs to its record: the only sequence there is, wherever the stage itself runs.

fetch the inputs -> is the result known? -> if not: run, see that the inputs are as they were, commit -> push -> record

Who runs it is an argument: a process here and in a pod; `begin` and `complete` around whatever else (spark-submit).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tasks.core.errors import AirloopError, Unavailable
from tasks.running.catalogue import Catalogue
from tasks.running.lease import Attempt
from tasks.running.runs import save_record
from tasks.storage.artefacts import Store, to_json, write_atomic
from tasks.versioning.failures import StageError
from tasks.versioning.lock_file import read_lock
from tasks.versioning.project import Project

Execute = Callable[[Sequence[str]], object]
"""Runs a command line to its end; raises unless it ends well."""
NOTES = ".airloop"
"""Folder of the workspace that keeps what a stage's inputs were when it began elsewhere, and which outputs are complete here."""


class Behind(AirloopError):  # noqa: N818 - it is a state of an interval
    """A run has not made what is read for an interval: a stage before it was refused there, or for the interval before."""


class StageRun:
    """Stage ``item`` (a name in dvc.lock) of the run whose workspace is ``root``.

    Args:
        root: the workspace, which is the current folder.
        item: as dvc.lock names it: ``features@2013-04``.
        store: where the run is recorded.
        attempt: this try's claim on the run.
    """

    def __init__(self, root: Path, item: str, store: Store, attempt: Attempt) -> None:
        self.item = item
        self._root, self._store, self._attempt = root, store, attempt
        self._project = Project(root)

    def close(self) -> None:
        """Release DVC's databases and locks."""
        self._project.close()

    def argv(self) -> list[str]:
        """The stage's command line."""
        return self._project.argv(self.item)

    def outputs(self) -> dict[str, str]:
        """Path to md5 of each recorded output."""
        return {out["path"]: out["md5"] for out in read_lock(self._root)[self.item]["outs"]}

    def run(self, execute: Execute) -> bool:
        """Make the stage's result, by ``execute`` unless it is known; returns whether it was known."""
        known = self.begin()
        if not known:
            execute(self.argv())
            self.complete()
        return known

    def begin(self) -> bool:
        """Fetch the inputs. Where the result is known, restore and record it; else note the inputs for `complete`.

        Raises:
            Behind: the run has not made one of them.
        """
        self._require_made()
        self.fetch()
        self._noted.unlink(missing_ok=True)
        _note(self._root, self.item).unlink(missing_ok=True)  # from here on its outputs are what this try makes of them
        if self._project.restore(self.item):
            self._record()
            return True
        write_atomic(self._noted, to_json(self._project.inputs(self.item)))
        return False

    def fetch(self) -> None:
        """Bring what the stage reads into the workspace."""
        fetch(self._project, self._root, self._project.producers(self.item))
        self._project.bring(self._project.listed(self.item))

    @property
    def begun(self) -> bool:
        """Whether `begin` found no result, so that `complete` has one to record."""
        return self._noted.exists()

    def complete(self) -> None:
        """Record what was made, unless the inputs have changed since `begin`."""
        if not self.begun:
            raise StageError(f"stage {self.item} was not begun in {self._root}; run `begin` before `complete`.")
        before, now = json.loads(self._noted.read_bytes()), self._project.inputs(self.item)
        changed = sorted(path for path in before.keys() | now.keys() if before.get(path) != now.get(path))
        if changed:
            raise Unavailable(
                f"stage {self.item}: {', '.join(changed)} changed while it ran, so its result says nothing about either "
                "version and is not recorded. It is run again."
            )
        self._project.commit(self.item)
        self._record()

    def restore_remotely(self) -> bool:
        """Record the result without fetching a byte of data, where the remote has it; returns whether it has."""
        self._require_made()
        known = self._project.record_if_known(self.item)
        if known:
            save_record(self._root, self._store, [self.item])
        return known

    def _require_made(self) -> None:
        """Raise Behind unless dvc.lock has all that the stage reads of others: files may be there of an earlier try."""
        catalogue, lock = Catalogue(self._root), read_lock(self._root)
        made_by = filter(None, map(catalogue.makes, self._project.reads(self.item)))
        require_made(self.item, sorted(set(made_by) - {*lock}))

    def _record(self) -> None:
        _note_complete(self._root, self.item)
        self._attempt.require()
        self._project.push([self.item])
        save_record(self._root, self._store, [self.item])

    @property
    def _noted(self) -> Path:
        return self._root / NOTES / f"{self.item}.json"


def require_made(item: str, missing: Sequence[str]) -> None:
    """Raise Behind when results are missing that ``item`` reads."""
    if missing:
        raise Behind(f"{item} reads what {', '.join(missing)} makes, and this run has not made that.")


def fetch(project: Project, root: Path, items: Sequence[str]) -> None:
    """Bring the outputs of these stages into the workspace, where they are not complete there.

    That a path exists is no proof: a try that was killed can leave a folder without its files.
    """
    wanted = [item for item in items if not _complete(root, item)]
    project.materialise(wanted)
    for item in wanted:
        _note_complete(root, item)


def _complete(root: Path, item: str) -> bool:
    outs, note = read_lock(root)[item]["outs"], _note(root, item)
    noted = note.exists() and note.read_bytes() == to_json(outs)
    return noted and all((root / out["path"]).exists() for out in outs)


def _note_complete(root: Path, item: str) -> None:
    write_atomic(_note(root, item), to_json(read_lock(root)[item]["outs"]))


def _note(root: Path, item: str) -> Path:
    return root / NOTES / f"{item}.complete.json"


@contextlib.contextmanager
def opened(root: Path, item: str, store: Store, attempt: Attempt) -> Iterator[StageRun]:
    """A stage of a run, closed at the end."""
    stage = StageRun(root, item, store, attempt)
    try:
        yield stage
    finally:
        stage.close()
