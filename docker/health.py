"""Exits 0 where a service can do its work: every HEALTHCHECK's command. Standard library only, since it runs every few seconds.

    python -IS health.py CHECK...         each of them must hold:

    http://127.0.0.1:8000/healthz                             it answers with a 2xx
    http://api-server:8080/api/v2/monitor/health#triggerer    and says that this part is healthy
    replica=http://127.0.0.1:8000/readyz                      a replica reads its store; no model need be live yet
    store                                                     the S3 store of AWS_ENDPOINT_URL answers here

A neighbour is asked the way the service itself would ask, by the container's proxy settings; this container's own address
is not. `airflow jobs check` says the same of one part of Airflow, for 4 to 6 seconds of CPU each time.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

TIMEOUT_SECONDS = 8.0
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Unwell(Exception):  # noqa: N818 - what a check found, not a fault of it
    """Why a service cannot do its work."""


def problem(check: str) -> str | None:
    """What is wrong by one check; None if nothing is."""
    try:
        if check == "store":
            _require_store(os.environ.get("AWS_ENDPOINT_URL", ""))
        elif check.startswith("replica="):
            _require_replica(check.removeprefix("replica="))
        else:
            _require_part(*check.partition("#")[::2])
    except Unwell as found:
        return str(found)
    return None


def _require_part(url: str, part: str) -> None:
    status, _, body = _get(url)
    if not 200 <= status < 300:
        raise Unwell(f"{url} answers {status}")
    if part and (said := _field(url, body, part, "status")) != "healthy":
        raise Unwell(f"{part}: {said}, says {url}")


def _require_replica(url: str) -> None:
    status, _, body = _get(url)
    if status not in (200, 503):
        raise Unwell(f"{url} answers {status}")
    if isinstance(_field(url, body).get("problems"), list):  # the proxy's own answer
        raise Unwell(f"{url}: {_field(url, body, 'error')}")
    models = _field(url, body, "models")
    away = [status["problems"]["store"] for status in models.values() if "store" in status["problems"]]
    if models and len(away) == len(models):
        raise Unwell(f"the store cannot be read: {away[0]}")


def _require_store(url: str) -> None:
    """An S3 store answers XML also to those that it does not know; a proxy on the way to it does not."""
    if not url:
        raise Unwell("AWS_ENDPOINT_URL is empty; name the S3 store")
    status, kind, _ = _get(f"{url.rstrip('/')}/airloop?list-type=2&max-keys=1")
    if status >= 500 or "xml" not in kind:
        raise Unwell(f"{url} answers {status} {kind}, which is no S3 store; is a proxy in between (NO_PROXY)?")


def _get(url: str) -> tuple[int, str, bytes]:
    """Status, content type and body of an answer, whatever its status."""
    direct = urlsplit(url).hostname in LOOPBACK
    try:
        opener = DIRECT if direct else urllib.request.build_opener()
        with opener.open(url, timeout=TIMEOUT_SECONDS) as answer:
            return answer.status, answer.headers.get_content_type(), answer.read()
    except urllib.error.HTTPError as answer:
        return answer.code, answer.headers.get_content_type(), answer.read()
    except (OSError, ValueError) as error:
        raise Unwell(f"{url}{'' if direct else _way(url)}: {type(error).__name__}: {error}") from None


def _way(url: str) -> str:
    """The proxy that is asked for an address, in words; empty where there is none."""
    parts = urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    return f" by the proxy {proxy}" if proxy and not urllib.request.proxy_bypass(parts.hostname or "") else ""


def _field(url: str, body: bytes, *names: str) -> Any:
    try:
        found = json.loads(body)
        for name in names:
            found = found[name]
    except (ValueError, KeyError, TypeError):
        raise Unwell(f"{url} does not say {'.'.join(names)}") from None
    return found


def main(checks: Sequence[str]) -> None:
    """Exit with the first problem found."""
    sys.exit(next(filter(None, map(problem, checks)), None))


if __name__ == "__main__":
    main(sys.argv[1:])
