"""Clients that disconnect while their connection is not read from, so that no read reports it."""

from __future__ import annotations

import asyncio
import socket
from errno import ECONNRESET

import pytest

from headgate.gateway.exchange import BUFFERED_BODY_BYTES, InboundExchange
from tests.fakes.edge_connection import CHUNKED, CONTROL, GET, EdgeConnection, ScriptedHandler

pytestmark = pytest.mark.anyio
OLD_GET = b"GET /v1/x HTTP/1.0\r\n\r\n"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class FakeSocket:
    """A socket whose peer is there until a test says otherwise."""

    def __init__(self) -> None:
        self.options: list[int] = []
        self.looks = 0
        self.error = 0

    def setsockopt(self, _level: int, option: int, _value: int) -> None:
        self.options.append(option)

    def getsockopt(self, _level: int, option: int) -> int:
        assert option == socket.SO_ERROR
        self.looks += 1
        return self.error


async def never(exchange: InboundExchange) -> None:
    await asyncio.Event().wait()


async def talk(raw: bytes, handler: ScriptedHandler) -> tuple[EdgeConnection, FakeSocket]:
    connection, fake_socket = EdgeConnection(handler), FakeSocket()
    connection.transport.extra["socket"] = fake_socket
    await connection.send(raw)
    await connection.settle()
    return connection, fake_socket


async def assert_found(connection: EdgeConnection, fake_socket: FakeSocket) -> None:
    """Check that a disconnect is found within a second, and not looked for afterwards."""
    for _ in range(20):
        connection.loop.move(1)
    assert not connection.transport.aborted
    fake_socket.error = ECONNRESET
    connection.loop.move(1)
    assert connection.transport.aborted
    looks = fake_socket.looks
    await connection.close()
    connection.loop.move(60)
    assert fake_socket.looks == looks


@pytest.mark.parametrize("raw", [GET, OLD_GET])
async def test_reset_of_a_half_closed_client_is_found(raw: bytes) -> None:
    connection, fake_socket = await talk(raw, ScriptedHandler(never))
    assert connection.protocol.eof_received() is True
    assert socket.SO_KEEPALIVE in fake_socket.options
    await assert_found(connection, fake_socket)


@pytest.mark.parametrize("second", [GET, CONTROL])
async def test_reset_of_a_pipelining_client_is_found(second: bytes) -> None:
    connection, fake_socket = await talk(GET + second, ScriptedHandler(never))
    assert connection.transport.paused
    await assert_found(connection, fake_socket)


async def test_reset_of_a_paused_sender_is_found() -> None:
    def prepare(exchange: InboundExchange) -> None:
        exchange.streams_body = True
        exchange.body_bytes_max = 2 * BUFFERED_BODY_BYTES

    size = BUFFERED_BODY_BYTES + 1
    connection, fake_socket = await talk(CHUNKED, ScriptedHandler(never, prepare))
    await connection.send(b"%x\r\n%b" % (size, bytes(size)))
    assert connection.transport.paused
    await assert_found(connection, fake_socket)


async def test_client_that_is_read_again_is_no_longer_checked() -> None:
    gate = asyncio.Event()

    async def answer(exchange: InboundExchange) -> None:
        await gate.wait()
        exchange.answer(200, b"", b"")

    connection, fake_socket = await talk(GET + GET, ScriptedHandler(answer))
    connection.loop.move(1)
    assert fake_socket.looks == 1
    gate.set()
    await connection.settle()
    assert not connection.transport.paused
    connection.loop.move(1)
    connection.loop.move(60)
    assert fake_socket.looks == 1
    gate.clear()
    await connection.send(GET + GET)
    connection.loop.move(1)
    assert fake_socket.looks == 2
    await connection.close()
