"""The landing zone, which the feed writes and we only read: files of each interval, and a manifest of their digests."""

from __future__ import annotations

import json
from typing import Annotated

from pydantic import Field, ValidationError

from tasks import spec
from tasks.core.errors import DataError, Unavailable
from tasks.core.frozen import Frozen
from tasks.core.results import Status
from tasks.settings.environment import landing
from tasks.settings.value_types import IntervalKey
from tasks.storage.artefacts import to_json

MANIFEST = "manifest.json"


class NotThere(DataError):  # noqa: N818 - it is a state that passes
    """The feed has not landed the file yet: it may still come, so the work waits."""

    status = Status.WAITING


class Entry(Frozen):
    """One landed file."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Digest of the file as it lies there, compressed."""
    bytes: Annotated[int, Field(ge=0)]
    """Its size."""
    rows: Annotated[int, Field(ge=0)]
    """Its data rows, the header not counted."""


class Manifest(Frozen, extra="ignore"):
    """What the feed says it landed. Other keys of a feed's own are ignored: only content makes an interval a new one."""

    interval: IntervalKey
    files: dict[str, Entry]
    """File name to what it holds."""


def read(interval: str, name: str) -> bytes:
    """Content of a landed file, read once; NotThere or Unavailable with the way out when it cannot be read."""
    zone = landing()
    path = f"{interval}/{name}"
    try:
        return zone.read(path)
    except FileNotFoundError:
        raise NotThere(f"{zone.uri(path)} has not landed. {land_again(interval)}") from None
    except OSError as error:
        raise Unavailable(f"{zone.uri(path)} cannot be read now ({error}); try again.") from None


def fetch_manifest(interval: str) -> Manifest:
    """The manifest that has landed for ``interval``; DataError when there is none, or it is not one."""
    where = landing().uri(f"{interval}/{MANIFEST}")
    return parse_manifest(read(interval, MANIFEST), interval, where)


def manifest_bytes(manifest: Manifest) -> bytes:
    """``manifest`` in canonical form, as a run's workspace has it: its digest names what has landed."""
    return to_json(manifest.model_dump())


def parse_manifest(data: bytes, interval: str, where: str) -> Manifest:
    """The manifest of ``interval`` in ``data``, which was read from ``where``; DataError when it is not one."""
    try:
        manifest = Manifest.model_validate(json.loads(data))
    except (ValidationError, ValueError) as error:
        raise DataError(f"{where} is not a manifest: {_first(error)}. {land_again(interval)}") from None
    if manifest.interval != interval:
        raise DataError(f"{where} is the manifest of {manifest.interval}, not of {interval}. {land_again(interval)}")
    return manifest


def land_again(interval: str) -> str:
    """The way out of every problem with a landed interval."""
    return f"Land the interval (again): {spec.current().land_command.format(interval=interval)}"


def _first(error: ValidationError | ValueError) -> str:
    if isinstance(error, ValidationError):
        problem = error.errors()[0]
        return f"{'.'.join(map(str, problem['loc'])) or 'content'}: {problem['msg']}"
    return str(error)
