"""The landing zone, which the feed writes and we only read: monthly files, and a manifest of their digests."""

from __future__ import annotations

import json
from typing import Annotated

from pydantic import Field, ValidationError

from tasks.common.artefacts import Store
from tasks.common.environment import environment
from tasks.common.errors import DataError
from tasks.common.params import Frozen, Month

MANIFEST = "manifest.json"


class Entry(Frozen):
    """One landed file."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Digest of the file as it lies there, compressed."""
    bytes: Annotated[int, Field(ge=0)]
    """Its size."""
    rows: Annotated[int, Field(ge=0)]
    """Its data rows, the header not counted."""


class Manifest(Frozen, extra="ignore"):
    """What the feed says it landed. Other keys of a feed's own are ignored: only content makes a month a new one."""

    month: Month
    files: dict[str, Entry]
    """File name to what it holds."""


def read(month: str, name: str) -> bytes:
    """Content of a landed file, read once; DataError with the way out when it is not there."""
    zone = Store(environment().landing_url)
    path = f"{month}/{name}"
    try:
        return zone.read(path)
    except OSError as error:
        why = "has not landed" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
        raise DataError(f"{zone.uri(path)} {why}. {land_again(month)}") from None


def parse_manifest(data: bytes, month: str, where: str) -> Manifest:
    """The manifest of ``month`` in ``data``, which was read from ``where``; DataError when it is not one."""
    try:
        manifest = Manifest.model_validate(json.loads(data))
    except (ValidationError, ValueError) as error:
        raise DataError(f"{where} is not a manifest: {_first(error)}. {land_again(month)}") from None
    if manifest.month != month:
        raise DataError(f"{where} is the manifest of {manifest.month}, not of {month}. {land_again(month)}")
    return manifest


def land_again(month: str) -> str:
    """The way out of every problem with a landed month."""
    return f"Land the month (again): python tasks/flights/landing.py --month {month}"


def _first(error: ValidationError | ValueError) -> str:
    if isinstance(error, ValidationError):
        problem = error.errors()[0]
        return f"{'.'.join(map(str, problem['loc'])) or 'content'}: {problem['msg']}"
    return str(error)
