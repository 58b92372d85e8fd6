"""The one set-up of all HTTP clients: loopback without a proxy, and the certificates that the user's shell names."""

from __future__ import annotations

import os
import ssl
from typing import Any

import httpx

from tasks.core import network

DIRECT: dict[str, httpx.BaseTransport | None] = {f"all://{host}": None for host in ("127.0.0.1", "localhost", "[::1]")}
"""None is the transport without a proxy."""


def client(url: str, *, seconds: float, verify: ssl.SSLContext | bool | None = None, **options: Any) -> httpx.Client:
    """A client of the service at ``url``.

    Args:
        url: address that its paths are added to.
        seconds: how long an answer may take.
        verify: what to check certificates by; ``trusted()`` unless given.
        options: others of httpx.Client.
    """
    checks = trusted(url) if verify is None else verify
    return httpx.Client(base_url=url, timeout=seconds, verify=checks, mounts=DIRECT, **options)


def trusted(url: str = "https:") -> ssl.SSLContext | bool:
    """The certificates that the environment names, or httpx's own; there are none to check in plain HTTP."""
    if not url.startswith("https:"):
        return False
    named = network.authority(os.environ)
    return ssl.create_default_context(cafile=named) if named else True
