"""Clients that leave while their connection is not read from: the loop does not hear of them."""

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


class Probed:
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


async def talk(raw: bytes, handler: ScriptedHandler) -> tuple[EdgeConnection, Probed]:
    connection, probed = EdgeConnection(handler), Probed()
    connection.transport.extra["socket"] = probed
    await connection.send(raw)
    await connection.settle()
    return connection, probed


async def assert_found(connection: EdgeConnection, probed: Probed) -> None:
    """Found within a second, however late it leaves; and looked at no more once it is gone."""
    for _ in range(20):
        connection.loop.move(1)
    assert not connection.transport.aborted
    probed.error = ECONNRESET
    connection.loop.move(1)
    assert connection.transport.aborted
    looks = probed.looks
    await connection.close()
    connection.loop.move(60)
    assert probed.looks == looks


@pytest.mark.parametrize("raw", [GET, OLD_GET])
async def test_client_that_shut_its_side_and_resets_is_found(raw: bytes) -> None:
    connection, probed = await talk(raw, ScriptedHandler(never))
    assert connection.protocol.eof_received() is True
    assert socket.SO_KEEPALIVE in probed.options
    await assert_found(connection, probed)


@pytest.mark.parametrize("second", [GET, CONTROL])
async def test_client_that_asked_ahead_and_resets_is_found(second: bytes) -> None:
    connection, probed = await talk(GET + second, ScriptedHandler(never))
    assert connection.transport.paused
    await assert_found(connection, probed)


async def test_sender_that_is_slowed_down_and_resets_is_found() -> None:
    def prepare(exchange: InboundExchange) -> None:
        exchange.streams_body = True
        exchange.body_bytes_max = 2 * BUFFERED_BODY_BYTES

    size = BUFFERED_BODY_BYTES + 1
    connection, probed = await talk(CHUNKED, ScriptedHandler(never, prepare))
    await connection.send(b"%x\r\n%b" % (size, bytes(size)))
    assert connection.transport.paused
    await assert_found(connection, probed)


async def test_client_that_is_read_from_again_is_looked_at_no_more() -> None:
    gate = asyncio.Event()

    async def answer(exchange: InboundExchange) -> None:
        await gate.wait()
        exchange.answer(200, b"", b"")

    connection, probed = await talk(GET + GET, ScriptedHandler(answer))
    connection.loop.move(1)
    assert probed.looks == 1
    gate.set()
    await connection.settle()
    assert not connection.transport.paused
    connection.loop.move(1)
    connection.loop.move(60)
    assert probed.looks == 1
    gate.clear()
    await connection.send(GET + GET)
    connection.loop.move(1)
    assert probed.looks == 2
    await connection.close()
