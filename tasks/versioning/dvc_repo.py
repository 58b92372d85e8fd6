"""All use of DVC's Python API, in one place: pinned by requirements/, covered by tests/versioning/test_dvc_repo.py.

The API spares the ~1 s that every dvc command costs; what it does is what the commands do.
"""

from __future__ import annotations

import io
import json
import os
import shlex
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from configobj import ConfigObj
from dvc.config import Config
from dvc.dvcfile import PROJECT_FILE, ProjectFile
from dvc.exceptions import DvcException, UploadError
from dvc.repo import Repo
from dvc.stage import Stage
from dvc.stage.cache import RunCacheNotFoundError
from dvc.stage.exceptions import StageCmdFailedError
from dvc.stage.serialize import to_single_stage_lockfile
from dvc_data.hashfile.checkout import checkout
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.transfer import transfer
from dvc_data.hashfile.tree import Tree

from tasks.core import fast_yaml
from tasks.core.errors import AirloopError, ConfigError, DataError, Unavailable
from tasks.core.full_disk import no_space
from tasks.core.results import EXIT_CODES, Status
from tasks.core.urls import path_of
from tasks.storage import lists
from tasks.storage.artefacts import write_atomic
from tasks.versioning import dvc_run_cache
from tasks.versioning.dvc_objects import entries, missing, renew, require_there, used
from tasks.versioning.dvc_run_cache import RunCache
from tasks.versioning.dvc_transfers import complete, reached

LOCK = "dvc.lock"
DVC_RUNNING = ".dvc/tmp/rwlock"
"""Which processes read or write which paths of a project."""


class StageError(AirloopError):
    """A stage's command failed; its own message is above in the log."""


def initialise(root: Path, *, cache: Path, remote: str, site_cache: Path) -> None:
    """Make ``root`` a DVC project without git, on a shared cache and remote, leaving nothing outside ``site_cache``."""
    for name in (str(cache), remote, str(site_cache)):
        if set(name) & set("{}"):
            raise _unfit(name, "its progress messages take { for a placeholder")
        if os.path.expandvars(name) != name:
            raise _unfit(name, "its databases put a variable's value in")
    folder, local = root / ".dvc", path_of(remote)
    folder.mkdir(exist_ok=True)
    settings = {
        "core": {
            "no_scm": "true",
            "analytics": "false",
            "check_update": "false",
            "remote": "airloop",
            "site_cache_dir": str(site_cache),
        },
        # Links spare a copy of the data for each run; stages replace files, they never write into one.
        "cache": {"dir": str(cache), "type": "reflink,hardlink,symlink,copy"},
        'remote "airloop"': {"url": remote if local is None else str(local)},
    }
    written = io.BytesIO()
    try:
        # By the library that DVC reads it with: it knows when %, #, commas and quotes in a path want quotes. Not by DVC's
        # own `Config.edit`, which writes ASCII only.
        ConfigObj(settings, encoding="utf-8", interpolation=False).write(written)
        (folder / "config").write_bytes(written.getvalue())
        # A stage may depend on a folder of code, in which Python keeps what it has compiled.
        (root / ".dvcignore").write_text("__pycache__\n", encoding="utf-8")
        Config(str(folder))
    except (DvcException, SyntaxError) as error:  # configobj's errors are SyntaxErrors
        raise _unfit(f"{cache}, {remote} or {site_cache}", str(error)) from None


def read_lock(root: Path) -> dict[str, Any]:
    """Stage to its entry in ``root``'s dvc.lock; empty when there is none."""
    path = root / LOCK
    return dict(fast_yaml.load(path.read_text())["stages"]) if path.exists() else {}


def write_lock(root: Path, stages: dict[str, Any]) -> None:
    """Write ``root``'s dvc.lock with these entries."""
    write_atomic(root / LOCK, lock_bytes(stages))


def lock_bytes(stages: dict[str, Any]) -> bytes:
    """These entries as a dvc.lock."""
    return fast_yaml.dump({"schema": "2.0", "stages": stages}).encode()


class Project:
    """The DVC project at a run's workspace."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._repo = Repo(str(root))
        self._repo.stage_cache = self._run_cache = RunCache(self._repo)
        # DVC keeps its index of the workspace from process to process; one that was killed may have left it half written, and
        # then what is not in it is not fetched. Rebuilding it takes milliseconds.
        shutil.rmtree(Path(self._repo.site_cache_dir) / "index", ignore_errors=True)
        self._hashed: dict[str, Stage] = {}
        self._read: ProjectFile | None = None

    def close(self) -> None:
        """Release DVC's databases and locks."""
        self._repo.close()

    def materialise(self, names: Iterable[str]) -> None:
        """Bring the recorded outputs of these stages into the workspace, from the cache or the remote.

        DVC trusts its database on what the cache holds; a file damaged since (a crash, a bad disk) would go
        unnoticed. So the files are hashed again, and fetched again from the remote where they differ.
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
            self._pull(targets)

    def _pull(self, targets: list[str]) -> None:
        """Fetch from the remote. Only a remote that answers and lacks a file is evidence that the file is lost."""
        try:
            with complete(", ".join(targets)):
                self._repo.pull(targets=targets, force=True)
        except (DvcException, OSError) as error:
            if sentence := no_space(error):
                raise Unavailable(sentence) from None
            remote = self._repo.cloud.get_remote_odb()
            with reached(remote.path):
                lost = [target for target in targets if missing(self._stage(target).outs, remote)]
            if lost:
                raise _lost(lost) from None
            raise Unavailable(
                f"{', '.join(targets)}: the files are in the DVC remote but could not be fetched ({_innermost(error)}); try again."
            ) from None

    def _damaged(self, target: str) -> list[str]:
        """Output files of ``target`` whose md5 is not the recorded one; they are dropped from cache and workspace."""
        from dvc_data.hashfile.hash import file_md5

        damaged = []
        for out in self._stage(target).outs:
            if not out.use_cache:
                continue  # a metric that is not kept: it is in no cache and no remote, and no stage reads it
            odb = out.cache
            for relative, md5 in entries(out):
                path = str(Path(out.fs_path) / relative) if relative else out.fs_path
                if file_md5(path, out.fs) != md5:
                    odb.delete(md5)
                    Path(path).unlink()
                    damaged.append(path)
        return damaged

    def bring(self, files: Mapping[str, str]) -> None:
        """Put each file or folder, by its path in the workspace and its md5, there from the cache or the remote, where it is not yet."""
        from dvc_data.hashfile.hash import file_md5

        local, odb = self._repo.fs, self._repo.cache.local
        absent = {
            path: md5
            for path, md5 in self._spread(files).items()
            if not (self._root / path).is_file() or file_md5(str(self._root / path), local) != md5
        }
        self._have(absent)
        for path, md5 in absent.items():
            (self._root / path).parent.mkdir(parents=True, exist_ok=True)
            checkout(str(self._root / path), local, odb.get(md5), odb, force=True, quiet=True, state=self._repo.state)

    def _spread(self, outs: Mapping[str, str]) -> dict[str, str]:
        """The same outputs with each folder's files in its place."""
        folders = {path: md5 for path, md5 in outs.items() if md5.endswith(".dir")}
        self._have(folders)
        found = {path: md5 for path, md5 in outs.items() if path not in folders}
        for path, md5 in folders.items():
            listed = json.loads(Path(self._repo.cache.local.oid_to_path(md5)).read_bytes())
            found |= {f"{path}/{entry['relpath']}": entry["md5"] for entry in listed}
        return found

    def _have(self, files: Mapping[str, str]) -> None:
        """See that the cache holds these files undamaged: those that it does not are fetched from the remote.

        Raises:
            DataError: the remote lacks one.
            Unavailable: the remote does not answer, or the disk is full.
        """
        wanted = {path: md5 for path, md5 in files.items() if not self._sound(md5)}
        if not wanted:
            return
        odb, remote = self._repo.cache.local, self._repo.cloud.get_remote_odb()
        with reached(remote.path):
            require_there(remote)
            there = set(remote.oids_exist(sorted(set(wanted.values()))))
            lost = [path for path, md5 in wanted.items() if md5 not in there]
        if lost:
            raise _lost(lost)
        with complete("the files of a list"):
            transfer(remote, odb, {HashInfo("md5", md5) for md5 in wanted.values()}, verify=True)

    def _sound(self, md5: str) -> bool:
        """Whether the cache has the object, by its content."""
        from dvc_data.hashfile.hash import file_md5

        odb = self._repo.cache.local
        if not odb.exists(md5):
            return False
        if file_md5(odb.oid_to_path(md5), odb.fs) == md5.removesuffix(".dir"):
            return True
        odb.delete(md5)
        return False

    def reproduce(self, names: Iterable[str], *, again: bool = False) -> None:
        """``dvc repro -s`` for each stage: from the run cache where the same inputs were seen, else by its command.

        ``again`` runs the command whatever is known of its result (``dvc repro -s -f --no-run-cache``).
        """
        for name in names:
            try:
                with complete(f"stage {name}"):
                    self._repo.reproduce([name], single_item=True, force=again, run_cache=not again)
            except DvcException as error:
                raise _failed(name, error) from None
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

    def adopt(self, name: str) -> bool:
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
        dvc_run_cache.copy(stage, self._remote_run_cache(), self._repo.cache.legacy)

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
            dvc_run_cache.copy(self._known_stage(name), self._repo.cache.legacy, self._remote_run_cache())

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

    def producers(self, name: str) -> list[str]:
        """Stages in dvc.lock whose outputs ``name`` depends on."""
        lock = read_lock(self._root)
        wanted = [dep.def_path for dep in self._known_stage(name).deps]
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

    def _stage(self, name: str) -> Stage:
        """Stage ``name``, as dvc.yaml and dvc.lock say now: what was read is used until dvc.lock is written."""
        if self._read is None:
            self._read = ProjectFile(self._repo, PROJECT_FILE)
        try:
            return self._read.stages[name]
        except DvcException as error:
            raise StageError(f"dvc.yaml has no stage {name}: {_innermost(error)}") from None


def _unfit(what: str, why: str) -> ConfigError:
    return ConfigError(
        f"DVC cannot work in {what} ({why}); set AIRLOOP_HOME, AIRLOOP_DVC_CACHE and AIRLOOP_DVC_REMOTE to folders "
        "without `{`, `}`, `%(`, three quotes in a row and the $NAME of a variable in their names."
    )


def _lost(what: list[str]) -> DataError:
    return DataError(
        f"{', '.join(what)}: no file with the digest in dvc.lock, neither in the cache nor in the DVC remote. "
        "Run the ingest DAG for that interval again; it makes the file again."
    )


def _overlap(out: str, dep: str) -> bool:
    return out == dep or out.startswith(f"{dep}/") or dep.startswith(f"{out}/")


def _failed(name: str, error: DvcException) -> AirloopError:
    """What became of stage ``name``, whose command has said more in the log above where it is its own fault."""
    cause = _innermost(error)
    if isinstance(cause, StageCmdFailedError) and cause.status == EXIT_CODES[Status.WAITING]:
        return Unavailable(f"stage {name}: what it needs is not to be had now; its own message is above.")
    if sentence := no_space(error):
        return Unavailable(f"stage {name}: {sentence}")
    return StageError(f"stage {name}: {cause}")


def _innermost(error: BaseException) -> BaseException:
    """The first of a chain of DVC exceptions: the outer ones only repeat the stage."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error
