"""The artefact store: one URL (a folder, S3, ...), whole objects, nothing half-written ever visible."""

from __future__ import annotations

import hashlib
import json
import uuid
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import fsspec

from tasks.core import disk
from tasks.core.errors import ConfigError, DataError
from tasks.core.urls import path_of, url_of


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
            disk.sync(file)
        partial.replace(path)
        disk.sync_folder(path.parent)
    except OSError as error:
        error.filename = error.filename or str(path)  # a write to a full disk does not say where that was
        raise
    finally:
        partial.unlink(missing_ok=True)


class Facts(NamedTuple):
    """What a listing says of an object."""

    bytes: int
    written: float
    """Epoch seconds."""


_PROVEN: set[str] = set()
"""URLs of stores that have been seen to create only what is not there."""


class Store:
    """Named objects below one URL. Names are relative paths with forward slashes ("ledger/000001.json").

    Args:
        url: where the objects are.
        shared: the store of which this is one model's part; by default it is whole.
        model: whose part it is.
    """

    def __init__(self, url: str, shared: Store | None = None, model: str = "") -> None:
        self.shared = shared or self
        self.model = model
        folder = path_of(url)
        self._local = folder is not None
        if folder is not None:  # not by fsspec, which takes the escapes of a file: URL for parts of a name
            self._fs, self._root = fsspec.filesystem("file"), str(folder.absolute())
            self.url = url_of(folder)
        else:
            self.url = url.rstrip("/")
            self._fs, self._root = fsspec.url_to_fs(self.url)

    def part(self, model: str) -> Store:
        """The part that is ``model``'s; what all models share stays in `shared`."""
        folder = path_of(self.url)
        return Store(f"{self.url}/{model}" if folder is None else url_of(folder / model), self, model)

    def parts(self) -> list[str]:
        """Sorted names of the folders directly below the URL."""
        self._fs.invalidate_cache()
        if not self._fs.exists(self._root):
            return []
        found = (
            entry["name"].rstrip("/") for entry in self._fs.ls(self._root, detail=True) if entry["type"] == "directory"
        )
        return sorted(path[len(self._root) + 1 :] for path in found)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def uri(self, name: str) -> str:
        """The full URL of ``name``, for people and records."""
        return url_of(Path(self._path(name))) if self._local else f"{self.url}/{name}"

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
                "it was changed or damaged. Restore it from a backup of the store, or rebuild it with `airloop rebuild`."
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

        Folders show whole files only (``disk.put_if_absent``); object stores have a conditional put.
        """
        if not self._local:
            self._prove()
            return self._put_if_absent(name, data)
        path = Path(self._path(name))
        partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
        write_atomic(partial, data)
        try:
            return disk.put_if_absent(partial, path)
        finally:
            partial.unlink(missing_ok=True)

    def _put_if_absent(self, name: str, data: bytes) -> bool:
        try:
            self._fs.pipe_file(self._path(name), data, mode="create")
        except OSError as error:
            if isinstance(error, FileExistsError) or _precondition_failed(error):
                return False
            raise
        return True

    def _prove(self) -> None:
        """Raise ConfigError where the store overwrites what must only be created; looked at once for each process."""
        if self.url in _PROVEN:
            return
        probe = f"probe/{uuid.uuid4().hex}"
        try:
            if self._put_if_absent(probe, b"1") and self._put_if_absent(probe, b"2"):
                raise ConfigError(
                    f"{self.url} overwrites an object that is put with `If-None-Match: *`, so two promotions at once could lose "
                    "one. Set AIRLOOP_STORE to a store that has conditional writes (docs/adr/0001)."
                )
        finally:
            self.delete(probe)
        _PROVEN.add(self.url)

    def delete(self, name: str) -> None:
        """Remove ``name``; nothing happens when it is not there."""
        with suppress(FileNotFoundError):
            self._fs.rm_file(self._path(name))

    def delete_all(self, prefix: str) -> None:
        """Remove everything below the folder ``prefix``, unfinished writes too; nothing happens when there is none."""
        with suppress(FileNotFoundError):
            self._fs.rm(self._path(prefix), recursive=True)

    def details(self, prefix: str) -> dict[str, Facts]:
        """Size and time of each object below the folder ``prefix``, unfinished writes too; empty when there is none."""
        self._fs.invalidate_cache()
        base = self._path(prefix)
        found: dict[str, Facts] = {}
        if not self._fs.exists(base):
            return found
        for path, info in self._fs.find(base, detail=True).items():
            at = next((info[name] for name in ("mtime", "LastModified", "created") if name in info), None)
            if at is None:
                continue  # a folder's own entry, which SeaweedFS keeps when it is empty
            seconds = at.timestamp() if isinstance(at, datetime) else float(at)
            found[path[len(self._root) + 1 :]] = Facts(int(info.get("size") or 0), seconds)
        return dict(sorted(found.items()))

    def unfinished(self) -> dict[str, Facts]:
        """What writes that were killed have left, in a folder only: an object store shows whole objects."""
        if not self._local or not (root := Path(self._root)).is_dir():
            return {}
        left = ((path, path.stat()) for path in root.rglob(".*.partial") if path.is_file())
        return {str(path.relative_to(root)): Facts(facts.st_size, facts.st_mtime) for path, facts in left}

    def names(self, prefix: str) -> list[str]:
        """Sorted names below the folder ``prefix``, at any depth; empty when there is none."""
        self._fs.invalidate_cache()
        base = self._path(prefix)
        if not self._fs.exists(base):
            return []
        cut = len(self._root) + 1
        found = (path[cut:] for path in self._fs.find(base))
        return sorted(name for name in found if not name.endswith((".partial", disk.LOCK)) and name != prefix)


def _precondition_failed(error: OSError) -> bool:
    """Whether an S3 store answered 412.

    s3fs makes it a FileExistsError only where the answer names the condition that failed: AWS does, SeaweedFS does not.
    """
    answer = getattr(error.__cause__, "response", None) or {}
    return bool(answer.get("ResponseMetadata", {}).get("HTTPStatusCode") == 412)
