"""A load generator that costs little itself: keep-alive HTTP/1.1 over bare asyncio streams, in its own process.

    python -m bench.load URL BODIES CONNECTIONS SECONDS

BODIES is a file with one JSON body a line, sent in turn. Prints one JSON object.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> int:
    """Send one request and read its answer whole; returns the HTTP status."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    await reader.readexactly(length)
    return int(head.split(b" ", 2)[1])


async def load(url: str, bodies: list[bytes], connections: int, seconds: float) -> dict[str, Any]:
    """Ask from ``connections`` at once for ``seconds``; returns counts and latencies (milliseconds)."""
    parts = urlsplit(url)
    head = f"POST {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\ncontent-type: application/json\r\ncontent-length: "
    requests = itertools.cycle([head.encode() + str(len(b)).encode() + b"\r\n\r\n" + b for b in bodies])
    latencies: list[float] = []
    failed = 0
    end = time.perf_counter() + seconds

    async def one() -> None:
        nonlocal failed
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        while (start := time.perf_counter()) < end:
            status = await ask(reader, writer, next(requests))
            latencies.append(time.perf_counter() - start)
            failed += status != 200
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(connections)))
    took = time.perf_counter() - began
    latencies.sort()
    return {
        "requests": len(latencies),
        "failed": failed,
        "per_second": len(latencies) / took,
        "p50_ms": 1000 * latencies[len(latencies) // 2],
        "p99_ms": 1000 * latencies[int(len(latencies) * 0.99)],
        "client_cpu_us": 1e6 * time.process_time() / len(latencies),
    }


if __name__ == "__main__":
    address, file, connections, seconds = sys.argv[1:]
    lines = Path(file).read_bytes().splitlines()
    print(json.dumps(asyncio.run(load(address, lines, int(connections), float(seconds)))))
