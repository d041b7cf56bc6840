"""Deliveries over real sockets: slow, huge, redirecting and moving receivers (W3 to W6)."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import ssl
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import pytest
import trustme

from headgate.webhooks.jobs import DispatcherLimits
from tests.fakes.waiting import wait_until
from tests.fakes.webhooks import (
    WebhookHarness,
    open_guarded_client,
    run_until_done,
    running,
    running_webhooks,
)

pytestmark = pytest.mark.anyio

ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"
HEALTHY = 50
QUEUED = 1_000
GIGABYTE = 1 << 30

Handler = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def harness(tmp_path: Path) -> Generator[WebhookHarness]:
    with running_webhooks(tmp_path / "data", None, egress_allow="127.0.0.1/32") as harness:
        yield harness


class Server:
    """Listen on a port, count connections, and answer requests by a handler."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self.connections = 0
        self.open = self.open_max = 0
        self.written = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        self.open_max = max(self.open_max, self.open)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]
                await reader.readexactly(int(length or b"0"))
                await self._handler(head, writer)
                await writer.drain()
        self.open -= 1
        writer.close()

    async def write_endlessly(self, writer: asyncio.StreamWriter, piece: bytes, size: int) -> None:
        while self.written < size:
            writer.write(piece)
            await writer.drain()
            self.written += len(piece)


@contextlib.asynccontextmanager
async def listening(
    handler: Handler, host: str = "127.0.0.1", *, port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncGenerator[Server]:
    server = Server(handler)
    listener = await asyncio.start_server(server.serve, host, port, ssl=tls, backlog=1024)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()


async def accept(_head: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(ANSWER)


async def hang(_head: bytes, _writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(3600)


async def send_one(harness: WebhookHarness, url: str, client: Any = None) -> Any:
    """Deliver one event to a URL; return its delivery."""
    harness.create(url)
    harness.publish()
    client = client or open_guarded_client(harness.application)
    try:
        async with harness.dispatcher(client) as dispatcher:
            await run_until_done(dispatcher)
    finally:
        await client.close()
    [delivery] = harness.deliveries()
    return delivery


async def test_receiver_that_hangs_delays_no_other(harness: WebhookHarness) -> None:
    """W3: 1,000 events wait for a receiver that hangs, 50 others are healthy."""
    arrived: dict[str, float] = {}

    async def accept_and_note(head: bytes, writer: asyncio.StreamWriter) -> None:
        arrived[head.split(b" ")[1].decode()] = time.monotonic()
        writer.write(ANSWER)

    client = open_guarded_client(harness.application)
    async with listening(hang) as slow, listening(accept_and_note) as healthy:
        harness.create(f"http://127.0.0.1:{slow.port}/", enabled_events=("key.revoked",))
        for number in range(HEALTHY):
            url = f"http://127.0.0.1:{healthy.port}/{number}"
            harness.create(url, enabled_events=("wallet.recharged",))
        harness.publish(QUEUED, topic="key.revoked")
        limits = DispatcherLimits(in_flight_max=64, endpoint_in_flight_max=32)
        async with harness.dispatcher(client, limits=limits) as dispatcher, running(dispatcher):
            await asyncio.to_thread(wait_until, lambda: slow.open > 0)
            begin = time.monotonic()
            harness.publish()
            await asyncio.to_thread(wait_until, lambda: len(arrived) == HEALTHY, 20.0)
            waits = sorted(at - begin for at in arrived.values())
            assert dispatcher.in_flight <= 64
            assert slow.open_max <= 8
            await dispatcher.stop(wait_seconds=0)
    await client.close()
    assert waits[int(HEALTHY * 0.95)] <= 2.0
    assert {each.status for each in harness.deliveries() if each.event_type == "key.revoked"} == {
        "pending"
    }


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("to", ["metadata", "other", "own"])
async def test_redirect_is_a_failure_and_nobody_follows_it(
    harness: WebhookHarness, status: int, to: str
) -> None:
    """W4: to an internal address, to another port, back to the receiver itself."""
    async with listening(accept) as other:
        places = {"metadata": "169.254.169.254", "other": f"127.0.0.1:{other.port}", "own": ""}

        async def redirect(_head: bytes, writer: asyncio.StreamWriter) -> None:
            place = places[to] or f"127.0.0.1:{receiver.port}"
            writer.write(
                f"HTTP/1.1 {status} Moved\r\nlocation: http://{place}/x\r\n"
                "content-length: 0\r\n\r\n".encode()
            )

        async with listening(redirect) as receiver:
            delivery = await send_one(harness, f"http://127.0.0.1:{receiver.port}/")
            assert receiver.connections == 1
        assert other.connections == 0
    assert (delivery.status, delivery.status_code) == ("pending", status)
    assert "Redirects are not followed" in delivery.error


async def test_name_that_moves_to_a_private_address_is_not_connected_to(
    harness: WebhookHarness,
) -> None:
    """W5: the name server answers with a public address first, and then with a private one."""

    class Rebinding:
        address = "127.0.0.1"
        asked = 0

        async def find(self, host: str) -> Sequence[str]:
            self.asked += 1
            return [self.address]

    lookup = Rebinding()

    async def accept_and_close(_head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")

    async with (
        listening(accept_and_close) as public,
        listening(accept, "127.0.0.2", port=public.port) as private,
    ):
        client = open_guarded_client(harness.application, lookup)
        for number in range(10):
            harness.create(f"http://hooks.test:{public.port}/{number}")
        async with harness.dispatcher(client) as dispatcher:
            harness.publish()
            await run_until_done(dispatcher)
            assert public.connections == 10
            lookup.address = "127.0.0.2"
            harness.publish(100)
            await run_until_done(dispatcher)
        await client.close()
        assert (public.connections, private.connections) == (10, 0)
    failed = [each for each in harness.deliveries() if each.status == "pending"]
    tried = [each for each in failed if each.attempts]
    assert len(failed) == 1_000
    assert all("127.0.0.2" in each.error for each in tried)
    assert tried


async def test_huge_answer_is_not_read(harness: WebhookHarness) -> None:
    """W6: a gigabyte, of which some kilobytes are read."""

    async def flood(_head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % GIGABYTE)
        await receiver.write_endlessly(writer, b"x" * 65_536, GIGABYTE)

    async with listening(flood) as receiver:
        delivery = await send_one(harness, f"http://127.0.0.1:{receiver.port}/")
        # What the system's buffers hold was sent, but never read.
        assert receiver.written < 32 << 20
    assert (delivery.status, delivery.status_code) == ("delivered", 200)


async def test_compressed_answer_is_not_unpacked(harness: WebhookHarness) -> None:
    bomb = gzip.compress(b"\0" * (32 << 20))

    async def explode(_head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n%b"
            % (len(bomb), bomb)
        )

    async with listening(explode) as receiver:
        delivery = await send_one(harness, f"http://127.0.0.1:{receiver.port}/")
    assert delivery.status == "delivered"
    assert len(delivery.history) < 8_192


async def test_slow_answer_is_given_up_soon(harness: WebhookHarness) -> None:
    async def trickle(_head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
        for _ in range(1000):
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.2)

    begin = time.monotonic()
    async with listening(trickle) as receiver:
        delivery = await send_one(harness, f"http://127.0.0.1:{receiver.port}/")
    assert delivery.status == "delivered"
    assert time.monotonic() - begin < 10


async def test_answer_is_kept_with_the_attempt(harness: WebhookHarness) -> None:
    async def refuse(_head: bytes, writer: asyncio.StreamWriter) -> None:
        text = b"database is down " * 100
        writer.write(b"HTTP/1.1 500 Oops\r\ncontent-length: %d\r\n\r\n%b" % (len(text), text))

    async with listening(refuse) as receiver:
        delivery = await send_one(harness, f"http://127.0.0.1:{receiver.port}/")
    with harness.database.reading() as connection:
        endpoint = harness.endpoint(delivery.endpoint_id)
        details = harness.application.webhooks.get_delivery(connection, endpoint, delivery.id)
    [attempt] = details.history
    assert attempt.status_code == 500
    assert attempt.response_body.startswith("database is down")
    assert len(attempt.response_body) == 512


async def test_certificate_that_nobody_trusts_is_a_failure(tmp_path: Path) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(tls)  # pyright: ignore[reportUnknownMemberType]
    async with listening(accept, tls=tls) as receiver:
        origin = f"https://127.0.0.1:{receiver.port}"
        with running_webhooks(tmp_path / "data", None, egress_allow=origin) as harness:
            delivery = await send_one(harness, f"{origin}/")
    assert (delivery.status, delivery.attempts, delivery.status_code) == ("pending", 1, None)
    assert "certificate" in delivery.error
