"""A peer that answers from a script, byte for byte, and a client for it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from headgate.kit.http.client import HttpClient
from headgate.kit.http.guard import Guard, parse_rule
from headgate.kit.http.message import Headers, Origin, Request, Timeouts

LOCAL = parse_rule(["127.0.0.0/8", "::1/128"])
"""Where the peers of these tests are."""

Script = Callable[["Peer"], Awaitable[None]]


class Peer:
    """The far end of one connection. `number` counts connections from 0."""

    def __init__(
        self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.number = number
        self.reader = reader
        self.writer = writer
        # What was given has left: the end of a script aborts, which drops what still waits here.
        # (Within TLS, asyncio takes an empty buffer for a full one where the limit is 0.)
        is_tls = writer.get_extra_info("ssl_object") is not None
        writer.transport.set_write_buffer_limits(high=1 if is_tls else 0)

    async def take_head(self) -> bytes:
        return await self.reader.readuntil(b"\r\n\r\n")

    async def take(self) -> bytes:
        """One whole request of a given length."""
        head = await self.take_head()
        for line in head.split(b"\r\n"):
            if line.startswith(b"content-length: "):
                return head + await self.reader.readexactly(int(line[16:]))
        return head

    async def give(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def wait_for_end(self) -> None:
        """Until the client has closed."""
        try:
            while await self.reader.read(65536):
                pass
        except ConnectionError:
            pass


class Upstream:
    """A listening server that runs one script for each connection."""

    def __init__(self) -> None:
        self.connections = 0
        self.faults: list[Exception] = []
        self.scheme = "http"
        self.port = 0

    @property
    def origin(self) -> Origin:
        return Origin(self.scheme, "127.0.0.1", self.port)

    def request(
        self,
        body: bytes | AsyncIterator[bytes] = b"",
        *,
        method: bytes = b"POST",
        headers: Headers | None = None,
        timeouts: Timeouts | None = None,
        content_length: int | None = None,
    ) -> Request:
        return Request(
            origin=self.origin,
            method=method,
            target=b"/v1/x",
            headers=headers or [],
            body=body,
            timeouts=timeouts or Timeouts(),
            content_length=content_length,
        )


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


@pytest.fixture
async def serve(anyio_backend: object) -> AsyncIterator[object]:
    servers: list[asyncio.Server] = []
    upstreams: list[Upstream] = []
    tasks: set[asyncio.Task[None]] = set()

    async def start(script: Script, *, tls: ssl.SSLContext | None = None) -> Upstream:
        upstream = Upstream()
        upstream.scheme = "https" if tls else "http"

        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            peer = Peer(upstream.connections, reader, writer)
            upstream.connections += 1
            try:
                await script(peer)
            except (ConnectionError, asyncio.IncompleteReadError):
                pass
            except asyncio.CancelledError:
                pass
            except Exception as error:  # noqa: BLE001 - shown when the test ends
                upstream.faults.append(error)
            finally:
                tasks.discard(task)
                writer.transport.abort()

        server = await asyncio.start_server(run, "127.0.0.1", 0, ssl=tls)
        upstream.port = server.sockets[0].getsockname()[1]
        servers.append(server)
        upstreams.append(upstream)
        return upstream

    yield start
    for server in servers:
        server.close()
    for task in tuple(tasks):
        task.cancel()
    if tasks:
        await asyncio.wait(tuple(tasks))
    for server in servers:
        await server.wait_closed()
    assert [fault for upstream in upstreams for fault in upstream.faults] == []


class Recorder:
    """A sink that keeps what it hears. `over` is set by the last word."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.ends = 0
        self.errors: list[Exception] = []
        self.over = asyncio.Event()

    @property
    def size(self) -> int:
        return sum(map(len, self.chunks))

    def on_data(self, data: bytes) -> None:
        self.chunks.append(data)

    def on_end(self) -> None:
        self.ends += 1
        self.over.set()

    def on_failure(self, error: Exception) -> None:
        self.errors.append(error)
        self.over.set()


@pytest.fixture
def recorder() -> type[Recorder]:
    return Recorder


@asynccontextmanager
async def open_http_client(**settings: Any) -> AsyncGenerator[HttpClient]:
    settings.setdefault("resolver", Guard(LOCAL))
    client = HttpClient(**settings)
    try:
        yield client
    finally:
        await client.close()
        assert client.stats().open == 0


@pytest.fixture
def open_client(anyio_backend: object) -> object:
    return open_http_client


@pytest.fixture
async def client(anyio_backend: object) -> AsyncIterator[HttpClient]:
    async with open_http_client() as client:
        yield client
