"""A response is written to its socket by one call, so that a killed replica leaves all of it or none."""

import asyncio
from contextlib import asynccontextmanager

import httpx
import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serving.whole import Protocol


async def app(scope, receive, send):
    """A head and a body, as Starlette sends them; a second piece of the body after a pause where the path asks for it."""
    if scope["type"] != "http":
        return
    more = scope["path"] == "/pieces"
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"10" if more else b"5")]}
    )
    await send({"type": "http.response.body", "body": b"whole", "more_body": more})
    if more:
        await asyncio.sleep(0.05)
        await send({"type": "http.response.body", "body": b"later"})


@asynccontextmanager
async def serve(protocol):
    """A server on loopback; yields its URL and what its connections write to their sockets."""
    written = []

    class Spy(protocol):
        def connection_made(self, transport):
            class Socket:
                def write(self, data):
                    written.append(bytes(data))
                    transport.write(data)

                def __getattr__(self, name):
                    return getattr(transport, name)

            super().connection_made(Socket())

    server = uvicorn.Server(uvicorn.Config(app, port=0, http=Spy, lifespan="off", log_level="error"))
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", written
    finally:
        server.should_exit = True
        await task


async def ask(protocol, *paths, headers=None):
    async with serve(protocol) as (url, written), httpx.AsyncClient(headers=headers) as client:
        texts = [(await client.get(url + path)).text for path in paths]
    return texts, [data.count(b"HTTP/1.1 200") for data in written]


def test_uvicorns_own_writes_twice():
    assert asyncio.run(ask(HttpToolsProtocol, "/")) == (["whole"], [1, 0]), "this file has no reason any more"


@pytest.mark.parametrize("headers", [None, {"connection": "close"}])
def test_head_and_body_are_written_at_once(headers):
    assert asyncio.run(ask(Protocol, "/", "/", headers=headers)) == (["whole"] * 2, [1, 1])


def test_what_comes_later_is_written_later():
    assert asyncio.run(ask(Protocol, "/pieces")) == (["wholelater"], [1, 0])
