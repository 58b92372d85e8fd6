"""Files come into a workspace: from the cache, else from the remote, by the digests that are recorded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from dvc.dvcfile import PROJECT_FILE, ProjectFile
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.stage import Stage
from dvc_data.hashfile.checkout import checkout
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.transfer import transfer

from tasks.core.errors import Unavailable
from tasks.core.full_disk import no_space
from tasks.versioning.failures import StageError, innermost, lost_files
from tasks.versioning.objects import entries, missing, require_there
from tasks.versioning.transfers import complete, reached


class Fetching:
    """The DVC project at a run's workspace, as far as it brings files from the cache or the remote."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._repo = Repo(str(root))
        # DVC keeps its index of the workspace from process to process; one that was killed may have left it half written, and
        # then what is not in it is not fetched. Rebuilding it takes milliseconds.
        shutil.rmtree(Path(self._repo.site_cache_dir) / "index", ignore_errors=True)
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
                raise lost_files(still)

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
                raise lost_files(lost) from None
            raise Unavailable(
                f"{', '.join(targets)}: the files are in the DVC remote but could not be fetched ({innermost(error)}); try again."
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
            raise lost_files(lost)
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

    def _stage(self, name: str) -> Stage:
        """Stage ``name``, as dvc.yaml and dvc.lock say now: what was read is used until dvc.lock is written."""
        if self._read is None:
            self._read = ProjectFile(self._repo, PROJECT_FILE)
        try:
            return self._read.stages[name]
        except DvcException as error:
            raise StageError(f"dvc.yaml has no stage {name}: {innermost(error)}") from None
