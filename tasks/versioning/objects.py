"""The objects that DVC keeps of an output."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from dvc.repo import Repo
from dvc.stage import Stage


def entries(out: Any) -> list[tuple[str, str]]:
    """Path below the output and md5 of each of its files; the output itself, where it is one."""
    if not out.hash_info.isdir:
        return [("", out.hash_info.value)]
    obj = out.get_obj()
    return [("/".join(key), info.value) for key, _, info in obj] if obj else []


def missing(outs: Iterable[Any], remote: Any) -> bool:
    """Whether an object of these outputs is neither in the cache nor in ``remote``.

    Raises:
        FileNotFoundError: the remote's own folder is not there.
    """
    require_there(remote)
    kept = [out for out in outs if out.use_cache and out.hash_info]
    return any(
        not (out.cache.exists(digest) or remote.exists(digest))
        for out in kept
        for digest in (out.hash_info.value, *_files(out))
    )


def require_there(remote: Any) -> None:
    """Raise FileNotFoundError when the remote's own folder is not there: then what it lacks is not lost."""
    if not remote.fs.exists(remote.path):
        raise FileNotFoundError(remote.path)


def _files(out: Any) -> list[str]:
    return [digest for _, digest in entries(out)] if out.cache.exists(out.hash_info.value) else []


def used(stages: Iterable[Stage]) -> set[Any]:
    """Digests of all objects that the outputs of these stages are made of."""
    return {digest for stage in stages for of_one in stage.get_used_objs(push=True).values() for digest in of_one}


def renew(repo: Repo, stages: Iterable[Stage]) -> None:
    """Make what was pushed young, though the remote had it: a clean-up (tasks/gc.py) spares what no record names yet.

    In a folder only: objects of an object store keep their time, so its clean-up runs when no run is at work (docs/runbook.md).
    """
    odb = repo.cloud.get_remote_odb()
    if odb.fs.protocol != "local":
        return
    for out in (out for stage in stages for out in stage.outs if out.use_cache and out.hash_info):
        for digest in {out.hash_info.value, *(digest for _, digest in entries(out))}:
            with suppress(FileNotFoundError):
                os.utime(odb.oid_to_path(digest))
