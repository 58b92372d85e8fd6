"""Predictions at a steady rate over reused connections, each answer counted and each lost request with its reason.

python -m tests.docker.loading http://127.0.0.1:8000 --rate 2000 --seconds 60
"""

from __future__ import annotations

import argparse
import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

FLIGHT = {"carrier": "UA", "flight": 1545, "origin": "EWR", "destination": "IAH", "scheduled_time": "2013-04-05T17:00"}
PATIENCE = 30.0
"""Seconds for one answer."""


@dataclass
class Load:
    """What was answered, and how."""

    statuses: Counter[int] = field(default_factory=Counter)
    replicas: Counter[str] = field(default_factory=Counter)
    """Bodies of tests' replicas, which say their name."""
    lost: list[str] = field(default_factory=list)
    """Why a request that was sent got no answer, or no connection could be had for it."""
    slowest: float = 0.0
    """Seconds of the slowest answer."""
    connections: int = 0
    """How many were opened."""

    @property
    def sent(self) -> int:
        return self.statuses.total() + len(self.lost)

    @property
    def well(self) -> bool:
        """Whether every request was answered with 200."""
        return not self.lost and set(self.statuses) == {200}

    def __str__(self) -> str:
        lost = f"{len(self.lost)} lost {dict(Counter(self.lost))}"
        return f"{self.sent} sent on {self.connections} connections: {dict(self.statuses)}, {lost}, slowest {self.slowest:.2f} s"


@contextmanager
def load(
    url: str, *, rate: float = 2000, connections: int = 50, path: str = "/models/flights/predict"
) -> Iterator[Load]:
    """Ask for predictions until the block ends, at ``rate`` a second or as fast as answers come."""
    found, end = Load(), threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(_all(url, path, found, end, rate, connections)))
    thread.start()
    try:
        yield found
    finally:
        end.set()
        thread.join()


async def _all(url: str, path: str, found: Load, end: threading.Event, rate: float, connections: int) -> None:
    parts = urlsplit(url)
    assert parts.hostname and parts.port
    body = json.dumps(FLIGHT).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: {parts.netloc}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    request = head.encode() + body
    period = connections / rate
    clients = [_Client(parts.hostname, parts.port, request, found) for _ in range(connections)]
    start = time.monotonic()
    await asyncio.gather(*(c.go(end, start + period * n / connections, period) for n, c in enumerate(clients)))


class _Client:
    """One connection, kept as long as the other side keeps it."""

    def __init__(self, host: str, port: int, request: bytes, found: Load) -> None:
        self.host, self.port, self.request, self.found = host, port, request, found
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def go(self, end: threading.Event, due: float, period: float) -> None:
        while not end.is_set():
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due = max(due + period, time.monotonic())
            try:
                async with asyncio.timeout(PATIENCE):
                    await self._ask()
            except (OSError, EOFError, ValueError, TimeoutError) as error:
                self.found.lost.append(f"{type(error).__name__}: {error}")
                self._close()
        self._close()

    async def _ask(self) -> None:
        started = time.monotonic()
        reader, writer = await self._connected()
        writer.write(self.request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        status, _, fields = head.partition("\r\n")
        headers = dict(line.split(": ", 1) for line in fields.strip().split("\r\n"))
        body = await reader.readexactly(int(headers["content-length"]))
        self.found.statuses[int(status.split()[1])] += 1
        if body.startswith(b"replica"):
            self.found.replicas[body.decode()] += 1
        self.found.slowest = max(self.found.slowest, time.monotonic() - started)
        if headers.get("connection") == "close":
            self._close()

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The connection; a new one where the other side has closed it, as every client's pool does."""
        if self.reader is None or self.writer is None or self.reader.at_eof():
            self._close()
            self.reader, self.writer = await asyncio.open_connection(self.host, self.port)
            self.found.connections += 1
        return self.reader, self.writer

    def _close(self) -> None:
        if self.writer is not None:
            with suppress(OSError):
                self.writer.close()
        self.reader = self.writer = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--rate", type=float, default=2000)
    parser.add_argument("--connections", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=30)
    given = parser.parse_args()
    with load(given.url, rate=given.rate, connections=given.connections) as found:
        time.sleep(given.seconds)
    print(found)


if __name__ == "__main__":
    main()
