"""Several requests on one connection: order, refusals, and half-closed clients."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from uvicorn.server import ServerState

from headgate.gateway.exchange import InboundExchange
from headgate.gateway.limits import EdgeLimits
from headgate.gateway.protocol import (
    CONTINUE,
    LINGERING_MAX,
    PIPELINED_MAX,
    REFUSED_BODY_BYTES_MAX,
    UNSENT_BYTES,
)
from headgate.gateway.request_parser import CHUNK_FRAMING_BYTES, FRAMING_BYTES_MAX
from headgate.relay.concurrency import ConcurrencyLimitError
from tests.fakes.edge_connection import (
    BAD,
    CHUNKED,
    CONTROL,
    GET,
    EchoHandler,
    EdgeConnection,
    Gate,
    ScriptedHandler,
    linger,
    post,
    talk,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_pipelined_requests_are_bounded_and_the_last_closes() -> None:
    gate = Gate()
    handler = ScriptedHandler(gate)
    connection = await talk(GET * (PIPELINED_MAX + 1), handler=handler)
    assert len(handler.exchanges) == PIPELINED_MAX + 1
    gate.open.set()
    await connection.settle()
    await connection.settle()
    assert connection.statuses == [200] * (PIPELINED_MAX + 1)
    assert connection.transport.written.count(b"connection: close\r\n") == 1
    assert connection.transport.closed or connection.transport.half_closed
    await connection.close()
    gate = Gate()
    connection = await talk(GET * PIPELINED_MAX, handler=ScriptedHandler(gate))
    gate.open.set()
    await connection.settle()
    await connection.settle()
    assert connection.statuses == [200] * PIPELINED_MAX
    assert b"connection: close\r\n" not in connection.transport.written
    await connection.close()


async def test_pipelined_request_over_the_limit_is_never_parsed() -> None:
    handler = ScriptedHandler(linger)
    connection = await talk(GET * (PIPELINED_MAX + 5), handler=handler)
    assert len(handler.exchanges) == PIPELINED_MAX + 1
    await connection.close()


async def test_pipelining_client_is_not_read_until_its_answer_is_written() -> None:
    gate = Gate()
    connection = await talk(GET + GET, handler=ScriptedHandler(gate))
    assert connection.transport.paused
    assert connection.protocol.deadline == 0.0
    gate.open.set()
    await connection.settle()
    assert not connection.transport.paused
    assert connection.statuses == [200, 200]
    assert connection.protocol.deadline == connection.loop.now + EdgeLimits().keepalive_seconds
    await connection.close()


async def test_deadline_of_a_pipelined_head_starts_after_the_answer() -> None:
    gate = Gate()
    connection = await talk(GET + GET[:9], handler=ScriptedHandler(gate))
    assert connection.protocol.deadline == 0.0
    gate.open.set()
    await connection.settle()
    assert connection.protocol.deadline == connection.loop.now + EdgeLimits().header_seconds
    await connection.close()


async def test_next_request_waits_until_the_last_answer_is_read() -> None:
    gate = Gate()
    handler = ScriptedHandler(gate)
    connection = await talk(GET, handler=handler)
    connection.protocol.pause_writing()
    gate.open.set()
    await connection.settle()
    assert connection.statuses == [200]
    assert connection.transport.paused
    connection.protocol.data_received(GET)
    await connection.settle()
    assert connection.statuses == [200]
    connection.protocol.resume_writing()
    await connection.settle()
    assert connection.statuses == [200, 200]
    await connection.send(GET)
    await connection.settle()
    assert connection.statuses == [200, 200, 200]
    await connection.close()


async def test_refusal_of_a_pipelined_request_waits_for_earlier_answers() -> None:
    gate = Gate()
    handler = ScriptedHandler(gate)
    connection = await talk(GET + BAD, handler=handler)
    assert connection.statuses == []
    gate.open.set()
    await connection.settle()
    assert connection.statuses == [200]
    assert b"connection: close\r\n" in connection.transport.written
    assert handler.refusals == []
    assert connection.transport.half_closed
    connection.wait(2.5)
    assert connection.transport.closed
    await connection.close()


async def test_malformed_body_of_a_pipelined_request_is_refused_in_order() -> None:
    gate = Gate()
    handler = ScriptedHandler(gate, lambda exchange: setattr(exchange, "body_bytes_max", 99))
    connection = await talk(GET + CHUNKED + BAD, handler=handler)
    assert (connection.statuses, handler.refusals) == ([], [])
    assert connection.protocol.deadline == 0.0
    gate.open.set()
    await connection.settle()
    assert connection.statuses == [200, 400]
    assert [each.code for each in handler.refusals] == ["malformed_request"]
    await connection.close()


async def test_malformed_streamed_body_raises_in_its_reader() -> None:
    handler = ScriptedHandler(linger, lambda exchange: setattr(exchange, "streams_body", True))
    connection = await talk(CHUNKED + BAD, handler=handler)
    assert connection.protocol.deadline == connection.loop.now + 2
    refusal = handler.exchanges[0].refusal
    assert refusal is not None
    assert refusal.code == "malformed_request"
    connection.wait(2.5)
    assert connection.transport.closed
    await connection.close()


async def test_malformed_streamed_body_cuts_an_answer_that_has_begun() -> None:
    async def start(exchange: InboundExchange) -> None:
        exchange.start(200, b"")
        await asyncio.Event().wait()

    handler = ScriptedHandler(start, lambda exchange: setattr(exchange, "streams_body", True))
    connection = await talk(CHUNKED, handler=handler)
    await connection.send(BAD)
    assert connection.transport.closed
    await connection.close()


async def test_half_closed_client_gets_an_interim_response() -> None:
    gate = Gate()
    connection = await talk(GET, handler=ScriptedHandler(gate))
    assert connection.protocol.eof_received() is True
    for seconds, count in (
        (0, 1),
        (0.09, 1),
        (0.02, 2),
        (0.28, 2),
        (0.02, 3),
        (0.58, 3),
        (0.02, 4),
    ):
        connection.loop.move(seconds)
        await connection.settle()
        assert connection.transport.written == CONTINUE * count
    gate.open.set()
    await connection.settle()
    assert connection.statuses == [100] * 4 + [200]
    assert b"connection: close\r\n" in connection.transport.written
    assert connection.transport.closed
    await connection.close()


async def test_no_interim_response_follows_the_begin_of_an_answer() -> None:
    gate = Gate()
    connection = await talk(GET + GET, handler=ScriptedHandler(gate))
    assert connection.protocol.eof_received() is True
    assert connection.transport.written == b""
    gate.open.set()
    await connection.settle()
    connection.loop.move(5)
    assert connection.statuses == [200, 200]
    await connection.close()


@pytest.mark.parametrize(
    ("raw", "is_tls"),
    [
        (b"", False),
        (CONTROL, True),
        (GET, True),
        (post(5), False),
        (post(5, target=b"/api/x"), False),
    ],
)
async def test_half_closed_client_without_interim_responses_is_closed(
    raw: bytes, is_tls: bool
) -> None:
    async def never(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    connection = EdgeConnection(ScriptedHandler(linger), is_tls=is_tls, app=never)
    await connection.send(raw)
    await connection.settle()
    assert connection.protocol.eof_received() is None
    assert connection.transport.written == b""
    await connection.close()


async def test_half_close_during_an_answer_closes() -> None:
    async def start(exchange: InboundExchange) -> None:
        exchange.start(200, b"")
        await asyncio.Event().wait()

    connection = await talk(GET, handler=ScriptedHandler(start))
    assert connection.protocol.eof_received() is None
    assert connection.statuses == [200]
    await connection.close()


async def test_write_in_the_turn_of_a_reset_is_dropped() -> None:
    handler = ScriptedHandler(linger)
    connection = await talk(GET, handler=handler)
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    handler.exchanges[0].start(200, b"")
    handler.exchanges[0].write(b"event")
    connection.lose(ConnectionResetError("reset by peer"))
    await connection.settle()
    assert (connection.transport.written, faults) == (b"", [])


async def test_half_closed_client_that_resets_gets_nothing_more() -> None:
    connection = await talk(GET, handler=ScriptedHandler(linger))
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    assert connection.protocol.eof_received() is True
    await connection.settle()
    connection.lose(ConnectionResetError("reset by peer"))
    connection.loop.move(60)
    await connection.settle()
    assert (connection.transport.written, faults) == (CONTINUE, [])


async def test_connections_over_the_limit_get_an_error_or_are_cut() -> None:
    state, handler = ServerState(), EchoHandler()
    limits = EdgeLimits(connections_max=2)
    connections = [
        EdgeConnection(handler, limits, state=state) for _ in range(2 + LINGERING_MAX + 1)
    ]
    assert [connection.statuses for connection in connections[:2]] == [[], []]
    assert all(connection.statuses == [503] for connection in connections[2:])
    assert not any(connection.transport.closed for connection in connections[:-1])
    assert connections[-1].transport.closed
    assert handler.refusals[0].message == "Too many connections."
    assert handler.refusals[0].retry_after_seconds == 1
    assert connections[0].transport.unsent_bytes_max == UNSENT_BYTES
    for connection in connections:
        await connection.close()
        assert connection.protocol.deadline == 0.0


@pytest.mark.parametrize(
    ("length", "more", "is_read"),
    [
        (REFUSED_BODY_BYTES_MAX, (), True),
        (REFUSED_BODY_BYTES_MAX + 1, (), False),
        (5, (b"expect: 100-continue",), False),
    ],
)
async def test_only_a_small_body_of_a_refused_call_is_read(
    length: int, more: tuple[bytes, ...], is_read: bool
) -> None:
    connection = await talk(post(length, *more), handler=RefusingHandler(length))
    assert connection.statuses == ([] if is_read else [503])
    assert (b"connection: close\r\n" in connection.transport.written) is not is_read
    await connection.send(b"x" * length)
    await connection.settle()
    assert connection.statuses == [503]
    assert connection.transport.half_closed is not is_read
    await connection.close()


class RefusingHandler(EchoHandler):
    """Refuse every request by its head, of which it knows the length of the body."""

    def __init__(self, length: int | None) -> None:
        super().__init__()
        self.refusing = ConcurrencyLimitError("Too many.")
        self._length = length

    def open(self, exchange: InboundExchange) -> None:
        exchange.content_length = self._length
        super().open(exchange)


async def test_chunked_body_of_a_refused_call_is_read_up_to_a_limit() -> None:
    connection = await talk(CHUNKED, handler=RefusingHandler(None))
    piece = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
    await connection.send(piece + piece)
    assert connection.statuses == []
    await connection.send(b"1\r\nx\r\n")
    assert connection.statuses == [503]
    await connection.close()


async def test_body_over_the_limit_is_refused_with_the_limit() -> None:
    handler = EchoHandler(body_bytes_max=8)
    connection = await talk(CHUNKED + b"8\r\nabcdefgh\r\n", handler=handler)
    assert connection.statuses == []
    await connection.send(b"1\r\nx\r\n")
    assert connection.statuses == [413]
    assert [each.message for each in handler.refusals] == [
        "The request body is larger than the 8 bytes allowed here."
    ]
    await connection.close()


async def test_answers_in_progress_are_counted() -> None:
    gate = Gate()
    connection = await talk(GET, handler=ScriptedHandler(gate))
    assert len(connection.state.tasks) == 1
    gate.open.set()
    await connection.settle()
    assert connection.state.tasks == set()
    await connection.close()


async def test_body_of_tiny_chunks_is_served() -> None:
    handler = EchoHandler(body_bytes_max=10**6)
    connection = await talk(CHUNKED + b"1\r\nx\r\n" * 30_000 + b"0\r\n\r\n", handler=handler)
    assert connection.statuses == [200]
    await connection.close()


@pytest.mark.parametrize("excess", [0, 1])
async def test_framing_of_a_body_is_limited(excess: int) -> None:
    handler = EchoHandler(body_bytes_max=10**6)
    connection = await talk(CHUNKED + b"1\r\nx\r\n" * 10, handler=handler)
    spare = FRAMING_BYTES_MAX + excess
    for extra in (spare // 2, spare - spare // 2):
        frame = b"1;a=\r\nx\r\n"
        extension = b"b" * (extra + CHUNK_FRAMING_BYTES + 1 - len(frame))
        await connection.send(frame.replace(b"=", b"=" + extension))
    assert connection.statuses == [400] * excess
    said = ["The chunks of the request body are too small."] * excess
    assert [each.message for each in handler.refusals] == said
    await connection.close()


async def test_framing_of_one_body_is_not_counted_for_the_next() -> None:
    handler = EchoHandler(body_bytes_max=10**6)
    long = b"1;a=" + b"b" * 40_000 + b"\r\nx\r\n"
    connection = await talk(handler=handler)
    for _ in range(4):
        await connection.send(CHUNKED + long)
        await connection.send(b"0\r\n\r\n")
    await connection.settle()
    assert connection.statuses == [200] * 4
    await connection.close()


@pytest.mark.parametrize(
    ("peer", "trusted", "address"),
    [
        (("127.0.0.1", 5), (), b"127.0.0.1"),
        (("127.0.0.1", 5), ("127.0.0.0/8",), b"1.2.3.4"),
        (None, (), b""),
        (None, ("127.0.0.0/8",), b""),
    ],
)
async def test_client_address_is_the_peer_or_named_by_a_trusted_proxy(
    peer: tuple[str, int] | None, trusted: tuple[str, ...], address: bytes
) -> None:
    async def script(exchange: InboundExchange) -> None:
        exchange.answer(200, b"", exchange.client_address.encode())

    connection = EdgeConnection(ScriptedHandler(script), trusted=trusted, peer=peer)
    await connection.send(GET.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n"))
    await connection.settle()
    assert connection.transport.written.endswith(b"\r\n\r\n" + address)
    await connection.close()
