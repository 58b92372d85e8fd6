"""The artefact store: one URL (a folder, S3, ...), whole objects, nothing half-written ever visible."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import fsspec

from tasks.common.errors import DataError


def sha256(data: bytes) -> str:
    """Hex SHA-256 of ``data``."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a local file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def to_json(value: Any) -> bytes:
    """``value`` as canonical JSON: sorted keys, so that equal content has equal bytes and digests; ends in a newline."""
    return (json.dumps(value, sort_keys=True, indent=1, allow_nan=False) + "\n").encode()


def write_atomic(path: Path, data: bytes) -> None:
    """Write a local file so that a reader, or a crash, sees the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        _sync_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Have the new name on the disk as well: without this, a lost machine may know the content and not the name."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Store:
    """Named objects below one URL. Names are relative paths with forward slashes ("ledger/000001.json")."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._fs, self._root = fsspec.url_to_fs(self.url)
        self._local = "file" in (self._fs.protocol if isinstance(self._fs.protocol, tuple) else (self._fs.protocol,))

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def uri(self, name: str) -> str:
        """The full URL of ``name``, for people and records."""
        return f"{self.url}/{name}"

    def exists(self, name: str) -> bool:
        """Whether ``name`` is there now (not from a cached listing)."""
        self._fs.invalidate_cache()
        return bool(self._fs.exists(self._path(name)))

    def read(self, name: str, sha256_hex: str | None = None) -> bytes:
        """Content of ``name``; FileNotFoundError if absent, DataError if it does not have the digest asked for."""
        data: bytes = self._fs.cat_file(self._path(name))
        if sha256_hex is not None and sha256(data) != sha256_hex:
            raise DataError(
                f"{self.uri(name)} has sha256 {sha256(data)[:12]}..., not {sha256_hex[:12]}... as recorded; "
                "it was changed or damaged. Restore it from a backup of the store, or rebuild it with `make rebuild`."
            )
        return data

    def read_json(self, name: str) -> Any:
        """Content of ``name`` parsed as JSON."""
        return json.loads(self.read(name))

    def write(self, name: str, data: bytes) -> str:
        """Put ``data`` under ``name`` in one step, replacing what was there; returns its sha256."""
        if self._local:
            write_atomic(Path(self._path(name)), data)
        else:
            self._fs.pipe_file(self._path(name), data)
        return sha256(data)

    def write_json(self, name: str, value: Any) -> str:
        """Put ``value`` as canonical JSON under ``name``; returns the sha256 of the bytes."""
        return self.write(name, to_json(value))

    def create(self, name: str, data: bytes) -> bool:
        """Put ``data`` under ``name`` only if nothing is there; False when somebody was first.

        Folders use link(2), which is atomic and shows whole files only; object stores a conditional put.
        """
        if not self._local:
            try:
                self._fs.pipe_file(self._path(name), data, mode="create")
            except OSError as error:
                if isinstance(error, FileExistsError) or _precondition_failed(error):
                    return False
                raise
            return True
        path = Path(self._path(name))
        partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
        write_atomic(partial, data)
        try:
            os.link(partial, path)
        except FileExistsError:
            return False
        finally:
            partial.unlink()
        return True

    def delete(self, name: str) -> None:
        """Remove ``name``; nothing happens when it is not there."""
        with suppress(FileNotFoundError):
            self._fs.rm_file(self._path(name))

    def delete_all(self, prefix: str) -> None:
        """Remove everything below the folder ``prefix``, unfinished writes too; nothing happens when there is none."""
        with suppress(FileNotFoundError):
            self._fs.rm(self._path(prefix), recursive=True)

    def written(self, prefix: str) -> dict[str, float]:
        """Each folder directly below ``prefix``, and when the newest object in it was written: epoch seconds."""
        self._fs.invalidate_cache()
        base = self._path(prefix)
        newest: dict[str, float] = {}
        if not self._fs.exists(base):
            return newest
        for path, facts in self._fs.find(base, detail=True).items():
            folder = f"{prefix}/{path[len(base) + 1 :].split('/')[0]}"
            at = next((facts[name] for name in ("mtime", "LastModified", "created") if name in facts), None)
            if at is None:
                continue  # a folder's own entry, which SeaweedFS keeps when it is empty
            seconds = at.timestamp() if isinstance(at, datetime) else float(at)
            newest[folder] = max(newest.get(folder, 0.0), seconds)
        return newest

    def names(self, prefix: str) -> list[str]:
        """Sorted names below the folder ``prefix``, at any depth; empty when there is none."""
        self._fs.invalidate_cache()
        base = self._path(prefix)
        if not self._fs.exists(base):
            return []
        cut = len(self._root) + 1
        found = (path[cut:] for path in self._fs.find(base))
        return sorted(name for name in found if not name.endswith(".partial") and name != prefix)


def _precondition_failed(error: OSError) -> bool:
    """Whether an S3 store answered 412.

    s3fs makes it a FileExistsError only where the answer names the condition that failed: AWS does, SeaweedFS does not.
    """
    answer = getattr(error.__cause__, "response", None) or {}
    return bool(answer.get("ResponseMetadata", {}).get("HTTPStatusCode") == 412)
