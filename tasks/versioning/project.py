"""Stages of a workspace's project: run, restored, recorded, pushed, as the commands of DVC do."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException, UploadError
from dvc.stage import Stage
from dvc.stage.cache import RunCacheNotFoundError
from dvc.stage.serialize import to_single_stage_lockfile
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.tree import Tree

from tasks.storage import lists
from tasks.versioning import run_cache
from tasks.versioning.failures import stage_failed
from tasks.versioning.fetching import Fetching
from tasks.versioning.lock_file import read_lock, write_lock
from tasks.versioning.objects import renew, used
from tasks.versioning.run_cache import RunCache
from tasks.versioning.transfers import complete


class Project(Fetching):
    """The DVC project at a run's workspace."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._repo.stage_cache = self._run_cache = RunCache(self._repo)
        self._hashed: dict[str, Stage] = {}

    def reproduce(self, names: Iterable[str], *, again: bool = False) -> None:
        """``dvc repro -s`` for each stage: from the run cache where the same inputs were seen, else by its command.

        ``again`` runs the command whatever is known of its result (``dvc repro -s -f --no-run-cache``).
        """
        for name in names:
            try:
                with complete(f"stage {name}"):
                    self._repo.reproduce([name], single_item=True, force=again, run_cache=not again)
            except DvcException as error:
                raise stage_failed(name, error) from None
            finally:
                self._read = None

    def restore(self, name: str) -> bool:
        """Take the result of ``name`` from the run cache, where the same inputs were seen; returns whether it was there.

        ``dvc repro`` would do it too, and run the command where it is not.
        """
        hashed = self._known_stage(name)
        hashed.save_deps()
        self._fetch_known(hashed)
        # Another object: this one compares the inputs with those in dvc.lock, whose outputs it would take for its own.
        stage = self._stage(name)
        try:
            with self._repo.lock:
                # DVC does so before it runs a command: it replaces no file that it does not know, as a killed try leaves them.
                stage.remove_outs(ignore_remove=False, force=False)
                self._run_cache.restore(stage)
        except RunCacheNotFoundError:
            return False
        self.commit(name)
        return True

    def record_if_known(self, name: str) -> bool:
        """Whether the result of ``name`` is known; if so, its entry is in dvc.lock afterwards.

        Neither inputs nor outputs need be here: inputs that are absent count with the digests that dvc.lock has for them,
        and outputs must be in the remote.
        """
        stage = self._stage(name)
        self._know_inputs(stage)
        self._fetch_known(stage)
        entry = self._run_cache.newest(stage)
        kept = {out.def_path for out in stage.outs if out.use_cache}
        if entry is None or not all(self._in_remote(out["md5"]) for out in entry["outs"] if out["path"] in kept):
            return False
        self._record(name, entry)
        return True

    def _know_inputs(self, stage: Stage) -> None:
        """Hash the inputs that are here; of those that are not, take the digest from dvc.lock."""
        outs = {out["path"]: out["md5"] for entry in read_lock(self._root).values() for out in entry.get("outs", [])}
        for dep in stage.deps:
            path = dep.def_path
            parts = {out: md5 for out, md5 in outs.items() if path and _overlap(out, path)}
            if all((self._root / out).exists() for out in parts):
                dep.save()
            elif path in parts:
                dep.hash_info = HashInfo("md5", parts[path])
            else:
                tree = Tree()  # type: ignore[no-untyped-call] # dvc-data is not typed through
                for out, md5 in parts.items():
                    tree.add(tuple(Path(out).relative_to(path).parts), None, HashInfo("md5", md5))
                tree.digest()
                dep.hash_info = tree.hash_info

    def _in_remote(self, md5: str) -> bool:
        odb = self._repo.cloud.get_remote_odb()
        return bool(odb.exists(md5))

    def _fetch_known(self, stage: Stage) -> None:
        """Bring the run cache's entries on this stage with these inputs from the remote, where there are any."""
        run_cache.copy(stage, self._remote_run_cache(), self._repo.cache.legacy)

    def _remote_run_cache(self) -> Any:
        return self._repo.cloud.get_remote_odb(None, "run cache", hash_name="md5-dos2unix")

    def inputs(self, name: str) -> dict[str, str]:
        """Path to digest of everything stage ``name`` depends on, hashed now."""
        stage = self._known_stage(name)
        stage.save_deps()
        return {
            dep.def_path: str(dep.hash_info.value)
            for dep in stage.deps
            if dep.hash_info and dep.hash_info.name != "params"
        }

    def commit(self, name: str) -> None:
        """Record the outputs of ``name`` as they lie in the workspace, and remember them in the run cache.

        ``Repo.commit`` does the same and then writes dvc.lock in place, by a parser that keeps comments: longer than the rest.
        """
        stage = self._stage(name)
        with complete(f"stage {name}"), self._repo.lock:
            stage.save()
            stage.commit()
        self._record(name, to_single_stage_lockfile(stage))

    def push(self, names: Iterable[str]) -> None:
        """Upload the recorded outputs of these stages to the remote, then what the run cache knows of them.

        By ``DataCloud``: ``Repo.push`` parses everything twice more, to find the same files for the same transfer.
        """
        targets = list(names)
        stages = [self._stage(name) for name in targets]
        with complete(", ".join(targets)), self._repo.lock:
            if failed := self._repo.cloud.push(used(stages)).failed:
                raise UploadError(len(failed))
        renew(self._repo, stages)
        for name in targets:
            run_cache.copy(self._known_stage(name), self._repo.cache.legacy, self._remote_run_cache())

    def argv(self, name: str) -> list[str]:
        """The stage's command from dvc.yaml as an argument list."""
        return shlex.split(str(self._known_stage(name).cmd))

    def listed(self, name: str) -> dict[str, str]:
        """Files that the stage reads by lists among its dependencies, where its `meta` says that it does: path to md5."""
        stage = self._known_stage(name)
        if not (stage.meta or {}).get("lists"):
            return {}
        found = (lists.read(str(dep.def_path), self._root) for dep in stage.deps)
        return {path: md5 for each in found for path, md5 in each.items()}

    def reads(self, name: str) -> list[str]:
        """Paths of what the stage depends on."""
        return [str(dep.def_path) for dep in self._known_stage(name).deps]

    def producers(self, name: str) -> list[str]:
        """Stages in dvc.lock whose outputs ``name`` depends on."""
        lock = read_lock(self._root)
        wanted = self.reads(name)
        return [
            producer
            for producer, entry in lock.items()
            if producer != name and any(_overlap(out["path"], dep) for out in entry.get("outs", []) for dep in wanted)
        ]

    def _known_stage(self, name: str) -> Stage:
        """Stage ``name`` to hash its inputs in and to ask for what dvc.yaml says."""
        if name not in self._hashed:
            self._hashed[name] = self._stage(name)
        return self._hashed[name]

    def _record(self, name: str, entry: dict[str, Any]) -> None:
        write_lock(self._root, {**read_lock(self._root), name: entry})
        self._read = None


def _overlap(out: str, dep: str) -> bool:
    return out == dep or out.startswith(f"{dep}/") or dep.startswith(f"{out}/")
