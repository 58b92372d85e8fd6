"""Between paths and URLs: the one place that knows how a folder's name is written in a URL (docs/adr/0036).

Standard library only, since what starts the services needs it before anything else is there.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote_to_bytes

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


def url_of(path: Path) -> str:
    """``path`` as a ``file:`` URL: absolute, and every byte of its name that means something in a URL escaped."""
    return path.absolute().as_uri()


def path_of(url: str) -> Path | None:
    """The path that a ``file:`` URL, or a bare path, names; None where ``url`` is somewhere else (S3, memory).

    What a person wrote without escapes is taken literally: ``file:///a b#1`` is the folder ``/a b#1``. Only a percent
    sign with two hexadecimal digits behind it is an escape.
    """
    if not url.lower().startswith("file:"):
        return None if _SCHEME.match(url) and "://" in url else Path(url)
    rest = url[len("file:") :]
    if rest.startswith("//"):
        host, slash, below = rest[2:].partition("/")
        if host not in ("", "localhost"):
            raise ValueError(f"{url} names a file of the machine {host!r}; write file:/// and a path of this machine.")
        rest = slash + below
    return Path(os.fsdecode(unquote_to_bytes(os.fsencode(rest))))


def hadoop_of(path: Path) -> str:
    """``path`` as Hadoop, and so Spark, takes it: behind its scheme, nothing is an escape, a query or a fragment.

    Given ``url_of(path)`` it would look for a folder whose name has percent signs.
    """
    return f"file://{path.absolute()}"
