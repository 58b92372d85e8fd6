"""All use of DVC's Python API, in one place: pinned by requirements/, covered by tests/common/test_dvc_repo.py.

The API spares the ~1 s that every dvc command costs; what it does is what the commands do.
"""

from __future__ import annotations

import configparser
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.stage import Stage
from dvc.stage.cache import RunCacheNotFoundError

from tasks.common.errors import AirloopError, DataError

LOCK = "dvc.lock"


class StageError(AirloopError):
    """A stage's command failed; its own message stands above in the log."""


def initialise(root: Path, *, cache: Path, remote: str, site_cache: Path) -> None:
    """Make ``root`` a DVC project without git, on a shared cache and remote, leaving nothing outside ``site_cache``."""
    config = configparser.ConfigParser()
    config["core"] = {
        "no_scm": "true",
        "analytics": "false",
        "check_update": "false",
        "remote": "airloop",
        "site_cache_dir": str(site_cache),
    }
    # Links spare a copy of the data for each run; stages replace files, they never write into one.
    config["cache"] = {"dir": str(cache), "type": '"reflink,hardlink,symlink,copy"'}
    config["'remote \"airloop\"'"] = {"url": remote}
    folder = root / ".dvc"
    folder.mkdir(exist_ok=True)
    with (folder / "config").open("w") as file:
        config.write(file)


def read_lock(root: Path) -> dict[str, Any]:
    """Stage to its entry in ``root``'s dvc.lock; empty when there is none."""
    path = root / LOCK
    return dict(yaml.safe_load(path.read_text())["stages"]) if path.exists() else {}


def write_lock(root: Path, stages: dict[str, Any]) -> None:
    """Write ``root``'s dvc.lock with these entries."""
    (root / LOCK).write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}, sort_keys=False))


class Project:
    """The DVC project at a run's workspace."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._repo = Repo(str(root))

    def close(self) -> None:
        """Release DVC's databases and locks."""
        self._repo.close()

    def materialise(self, names: Iterable[str]) -> None:
        """Bring the recorded outputs of these stages into the workspace, from the cache or the remote.

        DVC trusts its database on what the cache holds; a file damaged since (a crash, a bad disk) would go
        unnoticed. So the files are hashed again, and fetched anew from the remote where they differ.
        """
        targets = sorted(names)
        if not targets:
            return
        self._fetch(targets)
        damaged = [path for target in targets for path in self._damaged(target)]
        if damaged:
            self._fetch(targets)
            if still := [path for target in targets for path in self._damaged(target)]:
                raise _lost(still)

    def _fetch(self, targets: list[str]) -> None:
        try:
            self._repo.checkout(targets=targets, force=True)
        except DvcException:
            try:
                self._repo.pull(targets=targets, force=True)
            except DvcException:
                raise _lost(targets) from None

    def _damaged(self, target: str) -> list[str]:
        """Output files of ``target`` whose md5 is not the recorded one; they are dropped from cache and workspace."""
        from dvc_data.hashfile.hash import file_md5

        damaged = []
        for out in self._stage(target).outs:
            odb = out.cache
            entries = [("", out.hash_info.value)]
            if out.hash_info.isdir:
                obj = out.get_obj()
                entries = [("/".join(key), info.value) for key, _, info in obj] if obj else []
            for relative, md5 in entries:
                path = str(Path(out.fs_path) / relative) if relative else out.fs_path
                if file_md5(path, out.fs) != md5:
                    odb.delete(md5)
                    Path(path).unlink()
                    damaged.append(path)
        return damaged

    def reproduce(self, names: Iterable[str], *, again: bool = False) -> None:
        """``dvc repro -s`` for each stage: from the run cache where the same inputs were seen, else by its command.

        ``again`` runs the command whatever is known of its result (``dvc repro -s -f --no-run-cache``).
        """
        for name in names:
            try:
                self._repo.reproduce([name], single_item=True, force=again, run_cache=not again)
            except DvcException as error:
                raise StageError(f"stage {name}: {_sentence(error)}") from None

    def probe(self, name: str) -> bool:
        """Whether ``reproduce`` would find the result of ``name`` without running its command.

        ``dvc repro --dry`` does not look into the run cache, hence this.
        """
        stage = self._stage(name)
        stage.save_deps()
        try:
            self._repo.stage_cache.restore(stage, dry=True)
        except RunCacheNotFoundError:
            return False
        return True

    def inputs(self, name: str) -> dict[str, str]:
        """Path to digest of everything stage ``name`` depends on, hashed now."""
        stage = self._stage(name)
        stage.save_deps()
        return {
            dep.def_path: str(dep.hash_info.value)
            for dep in stage.deps
            if dep.hash_info and dep.hash_info.name != "params"
        }

    def commit(self, name: str) -> None:
        """Record the outputs of ``name`` as they lie in the workspace, and remember them in the run cache."""
        self._repo.commit(target=name, force=True)

    def push(self, names: Iterable[str]) -> None:
        """Upload the recorded outputs of these stages to the remote."""
        self._repo.push(targets=list(names))

    def argv(self, name: str) -> list[str]:
        """The stage's command from dvc.yaml as an argument list."""
        return shlex.split(str(self._stage(name).cmd))

    def producers(self, name: str) -> list[str]:
        """Stages in dvc.lock whose outputs ``name`` depends on."""
        lock = read_lock(self._root)
        wanted = [dep.def_path for dep in self._stage(name).deps]
        return [
            producer
            for producer, entry in lock.items()
            if producer != name and any(_overlap(out["path"], dep) for out in entry.get("outs", []) for dep in wanted)
        ]

    def _stage(self, name: str) -> Stage:
        try:
            return self._repo.stage.load_one(name=name)
        except DvcException as error:
            raise StageError(f"dvc.yaml has no stage {name}: {_sentence(error)}") from None


def _lost(what: list[str]) -> DataError:
    return DataError(
        f"{', '.join(what)}: no file with the digest in dvc.lock, neither in the cache nor in the DVC remote. "
        "Run the ingest DAG for that month again; it makes the file anew."
    )


def _overlap(out: str, dep: str) -> bool:
    return out == dep or out.startswith(f"{dep}/") or dep.startswith(f"{out}/")


def _sentence(error: BaseException) -> str:
    """The innermost message of a chain of DVC exceptions: the outer ones only repeat the stage."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error)
