"""The workspace of a run, leased and open: the current folder of whatever works in it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

from tasks.core.errors import Skip
from tasks.running import lease, runs, stage_run
from tasks.running.catalogue import KEY, Catalogue, Work
from tasks.running.runs import Request, Span, open_run, read_run, workspace
from tasks.running.stage_run import StageRun, require_made
from tasks.settings.environment import environment
from tasks.storage.artefacts import Store
from tasks.versioning.lock_file import read_lock
from tasks.versioning.project import Project


class Workspace:
    """An open run.

    Args:
        root: its folder.
        run: its key.
        span: what it is about.
        store: where it is recorded.
        attempt: this try's claim on it.
    """

    def __init__(self, root: Path, run: str, span: Span, store: Store, attempt: lease.Attempt) -> None:
        self.root, self.run, self.span, self.store = root, run, span, store
        self._attempt = attempt

    @property
    def lease(self) -> Path:
        """The lock file of this workspace."""
        return lease_of(self.run)

    @contextlib.contextmanager
    def stage(self, work: Work, key: str | None = None) -> Iterator[StageRun]:
        """A stage of this run, for the interval ``key`` (by default the span's last)."""
        with stage_run.opened(self.root, work.item(key or self.span.last), self.store, self._attempt) as stage:
            yield stage

    def require_effects(self) -> None:
        """Raise Skip in an exploratory run: its policy may be another than the checkout's, so nothing leaves it."""
        if read_run(self.root).exploratory:
            raise Skip(
                f"run {self.run} is exploratory: what it made is in its workspace, and nothing is published or registered."
            )

    def forget(self, work: Work, keys: Collection[str]) -> None:
        """Take a stage, and those that come after it, out of the run for these intervals; one without intervals stays."""
        if work.keyed:
            self._attempt.require()
            after = Catalogue(self.root).from_here(work)
            runs.forget(self.root, self.store, [each.item(key) for key in keys for each in after])

    def fetch_reads(self, work: Work, key: str) -> None:
        """Bring what a job reads for the interval ``key`` into the workspace.

        Raises:
            Behind: the run has not made it.
        """
        wanted, lock = [read.replace(KEY, key) for read in work.reads], read_lock(self.root)
        require_made(f"{work.name} of {key}", [item for item in wanted if "@" in item and item not in lock])
        locked = [item for item in lock if item in wanted or item.split("@")[0] in wanted]
        if not locked:
            return
        project = Project(self.root)
        try:
            stage_run.fetch(project, self.root, locked)
        finally:
            project.close()


def lease_of(run: str) -> Path:
    """The lock file of run ``run``'s workspace."""
    root = workspace(run)
    return root.with_name(f"{root.name}.lease")


@contextlib.contextmanager
def opened(request: Request, store: Store, *, begins: bool = False, helps: bool = False) -> Iterator[Workspace]:
    """Lease and open the workspace of a run, and work in it: current folder, `python` and `import tasks` are the run's.

    Args:
        request: what the run is to do.
        store: where it is recorded.
        begins: whether this is the run's first task.
        helps: whether this process is one of several that work together, and another one of them records the result.
    """
    with lease.held(lease_of(request.key)):
        root = open_run(request, store, begins=begins)
        _configure(root, request.key)
        with contextlib.chdir(root):
            yield Workspace(root, request.key, request.span, store, lease.Attempt(store, request.key, claims=not helps))


def _configure(root: Path, run: str) -> None:
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    os.environ["PYTHONPATH"] = str(root)
    os.environ["AIRLOOP_RUN"] = run
    os.environ["AIRLOOP_CODE"] = str(environment().code)  # whose policy counts: never the workspace's own
