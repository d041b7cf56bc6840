"""Clients that leave while their connection is not read from: the loop does not hear of them."""

from __future__ import annotations

import asyncio
import socket
from errno import ECONNRESET

import pytest

from headgate.gateway.exchange import BUFFERED_BODY_BYTES, InboundExchange
from tests.fakes.wire import CHUNKED, CONTROL, GET, Line, ScriptedHandler

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


async def talk(raw: bytes, handler: ScriptedHandler) -> tuple[Line, Probed]:
    line, probed = Line(handler), Probed()
    line.wire.extra["socket"] = probed
    await line.send(raw)
    await line.settle()
    return line, probed


async def assert_found(line: Line, probed: Probed) -> None:
    """Found within a second, however late it leaves; and looked at no more once it is gone."""
    for _ in range(20):
        line.loop.move(1)
    assert not line.wire.aborted
    probed.error = ECONNRESET
    line.loop.move(1)
    assert line.wire.aborted
    looks = probed.looks
    await line.close()
    line.loop.move(60)
    assert probed.looks == looks


@pytest.mark.parametrize("raw", [GET, OLD_GET])
async def test_client_that_shut_its_side_and_resets_is_found(raw: bytes) -> None:
    line, probed = await talk(raw, ScriptedHandler(never))
    assert line.protocol.eof_received() is True
    assert socket.SO_KEEPALIVE in probed.options
    await assert_found(line, probed)


@pytest.mark.parametrize("second", [GET, CONTROL])
async def test_client_that_asked_ahead_and_resets_is_found(second: bytes) -> None:
    line, probed = await talk(GET + second, ScriptedHandler(never))
    assert line.wire.paused
    await assert_found(line, probed)


async def test_sender_that_is_slowed_down_and_resets_is_found() -> None:
    def prepare(exchange: InboundExchange) -> None:
        exchange.streams_body = True
        exchange.body_bytes_max = 2 * BUFFERED_BODY_BYTES

    size = BUFFERED_BODY_BYTES + 1
    line, probed = await talk(CHUNKED, ScriptedHandler(never, prepare))
    await line.send(b"%x\r\n%b" % (size, bytes(size)))
    assert line.wire.paused
    await assert_found(line, probed)


async def test_client_that_is_read_from_again_is_looked_at_no_more() -> None:
    gate = asyncio.Event()

    async def answer(exchange: InboundExchange) -> None:
        await gate.wait()
        exchange.answer(200, b"", b"")

    line, probed = await talk(GET + GET, ScriptedHandler(answer))
    line.loop.move(1)
    assert probed.looks == 1
    gate.set()
    await line.settle()
    assert not line.wire.paused
    line.loop.move(1)
    line.loop.move(60)
    assert probed.looks == 1
    gate.clear()
    await line.send(GET + GET)
    line.loop.move(1)
    assert probed.looks == 2
    await line.close()
