"""How long a connection waits for its client, to the second, with a manual clock."""

from __future__ import annotations

import asyncio
import email.utils
import time
from typing import Any

import pytest
from uvicorn.server import ServerState

from headgate.gateway import edge as edges
from headgate.gateway.edge import Edge
from headgate.gateway.exchange import InboundExchange
from headgate.gateway.hosts import HostAllowlist
from headgate.gateway.limits import EdgeLimits
from tests.fakes.edge_connection import EchoHandler, EdgeConnection, ScriptedHandler, linger

pytestmark = pytest.mark.anyio
LIMITS = EdgeLimits(
    first_request_seconds=20.0,
    header_seconds=8.0,
    body_seconds=60.0,
    body_grace_seconds=4.0,
    body_bytes_per_second_min=16,
    write_seconds=32.0,
    keepalive_seconds=70.0,
)
"""Powers of two, so that times add up exactly."""
STEP = 2.0**-10
GET = b"GET /v1/x HTTP/1.1\r\nhost: a\r\n\r\n"
POST = b"POST /v1/x HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n"
CONTROL = POST.replace(b"/v1/x", b"/x")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def read_all(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI application that answers once it has the body."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def talk(*chunks: bytes, handler: EchoHandler | None = None) -> EdgeConnection:
    connection = EdgeConnection(handler or EchoHandler(), LIMITS, app=read_all)
    for chunk in chunks:
        await connection.send(chunk)
    await connection.settle()
    return connection


def lives_until(connection: EdgeConnection, seconds: float) -> bool:
    """Return whether a connection lives exactly until a moment."""
    written = connection.transport.written
    connection.wait(seconds)
    lives = not connection.transport.closed and connection.transport.written == written
    connection.wait(STEP)
    return lives and (connection.transport.closed or connection.transport.written != written)


def take_long(exchange: InboundExchange) -> None:
    exchange.may_take_long = True
    exchange.body_bytes_max = 10**6


async def test_connection_without_a_first_request_is_closed_silently() -> None:
    connection = await talk()
    assert lives_until(connection, 20)
    assert (connection.transport.written, connection.transport.closed) == (b"", True)
    await connection.close()


@pytest.mark.parametrize("before", [b"", GET])
async def test_head_deadline_starts_at_its_first_byte(before: bytes) -> None:
    connection = await talk(*([before] if before else []))
    connection.wait(5)
    await connection.send(GET[:9])
    connection.wait(6)
    await connection.send(GET[9:20])
    assert lives_until(connection, 2)
    assert connection.statuses[-1] == 408
    assert b"connection: close\r\n" in connection.transport.written
    await connection.close()


async def test_late_head_gets_408() -> None:
    handler = EchoHandler()
    connection = await talk(GET[:9], handler=handler)
    connection.wait(9)
    assert [each.message for each in handler.refusals] == ["The request did not arrive in time."]
    assert [each.code for each in handler.refusals] == ["request_timeout"]
    await connection.close()


async def test_idle_connection_is_kept_and_then_closed_silently() -> None:
    connection = await talk(GET)
    assert lives_until(connection, 70)
    assert (connection.statuses, connection.transport.closed) == ([200], True)
    await connection.close()


@pytest.mark.parametrize("request_bytes", [POST, CONTROL])
async def test_body_that_never_arrives_ends_after_the_grace(request_bytes: bytes) -> None:
    connection = await talk(request_bytes, handler=ScriptedHandler(linger, take_long))
    assert lives_until(connection, 4)
    await connection.close()


@pytest.mark.parametrize("request_bytes", [POST, CONTROL])
async def test_body_bytes_extend_the_deadline_at_the_minimum_rate_up_to_the_grace(
    request_bytes: bytes,
) -> None:
    connection = await talk(request_bytes, handler=ScriptedHandler(linger, take_long))
    await connection.send(b"x" * 16)
    connection.wait(4 + STEP)
    assert not connection.transport.closed
    assert connection.protocol.deadline == connection.loop.now + 1 - STEP
    await connection.send(b"x" * 32)
    connection.wait(1)
    await connection.send(b"x" * 160)
    connection.wait(2)
    assert connection.protocol.deadline == connection.loop.now + 4 - STEP
    assert lives_until(connection, 4 - STEP)
    await connection.close()


async def test_body_at_exactly_the_minimum_rate_is_late() -> None:
    connection = await talk(POST, handler=ScriptedHandler(linger, take_long))
    await connection.send(b"x" * 16)
    connection.wait(5)
    assert connection.statuses == [408]
    await connection.close()


async def trickle(connection: EdgeConnection, seconds: int) -> int:
    """Send just enough; return the seconds until the connection was refused or closed."""
    for second in range(seconds):
        await connection.send(b"x" * 16)
        connection.wait(1)
        if connection.transport.closed or connection.transport.written:
            return second + 1
    return seconds


async def test_buffered_body_has_an_absolute_deadline() -> None:
    connection = await talk(POST.replace(b"1000", b"3000"))
    assert await trickle(connection, 100) == 61
    assert connection.statuses == [408]
    await connection.close()
    control = await talk(CONTROL.replace(b"1000", b"3000"))
    assert await trickle(control, 100) == 61
    await control.close()


async def test_streamed_body_has_only_a_minimum_rate() -> None:
    connection = await talk(
        POST.replace(b"1000", b"3000"), handler=ScriptedHandler(linger, take_long)
    )
    assert await trickle(connection, 100) == 100
    assert not connection.transport.closed
    await connection.close()


async def test_answered_request_has_no_deadline() -> None:
    connection = await talk(GET, handler=ScriptedHandler(linger))
    connection.wait(10**6)
    assert not connection.transport.closed
    assert connection.transport.written == b""
    await connection.close()


async def test_client_that_reads_nothing_is_closed_and_a_slow_one_is_not() -> None:
    connection = await talk(GET, handler=ScriptedHandler(linger))
    connection.transport.unsent_bytes = 100
    connection.protocol.pause_writing()
    connection.wait(16)
    assert connection.protocol.deadline == connection.loop.now
    connection.wait(STEP)
    assert connection.protocol.deadline == connection.loop.now + 16
    connection.transport.unsent_bytes = 99
    connection.wait(16 + STEP)
    assert not connection.transport.aborted
    connection.wait(16)
    assert not connection.transport.aborted
    connection.wait(STEP)
    assert connection.transport.aborted
    await connection.close()


async def test_unread_answer_before_a_close_is_cut() -> None:
    connection = await talk(GET.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
    assert connection.transport.closed
    connection.transport.unsent_bytes = 100
    connection.wait(16 + STEP)
    assert not connection.transport.aborted
    connection.wait(16)
    assert not connection.transport.aborted
    connection.wait(STEP)
    assert connection.transport.aborted
    await connection.close()


async def test_client_that_catches_up_between_requests_gets_the_idle_deadline() -> None:
    connection = await talk(GET)
    connection.protocol.pause_writing()
    connection.wait(10)
    connection.protocol.resume_writing()
    assert lives_until(connection, 70)
    await connection.close()


async def test_client_that_catches_up_with_its_answer_has_no_deadline() -> None:
    connection = await talk(GET, handler=ScriptedHandler(linger))
    connection.protocol.pause_writing()
    connection.protocol.resume_writing()
    assert connection.protocol.deadline == 0.0
    await connection.close()


async def test_body_deadline_resumes_once_the_client_reads() -> None:
    connection = await talk(POST, handler=ScriptedHandler(linger, take_long))
    connection.protocol.pause_writing()
    connection.protocol.resume_writing()
    assert lives_until(connection, 4)
    await connection.close()


async def test_refused_upload_is_read_for_a_moment() -> None:
    connection = await talk(b"nonsense\r\n\r\n")
    assert (connection.statuses, connection.transport.half_closed, connection.transport.closed) == (
        [400],
        True,
        False,
    )
    connection.wait(2)
    assert not connection.transport.closed
    connection.wait(STEP)
    assert connection.transport.closed
    await connection.close()


async def test_refused_sender_that_reads_slowly_is_not_idle() -> None:
    connection = await talk(b"nonsense\r\n\r\n")
    connection.protocol.pause_writing()
    connection.protocol.resume_writing()
    assert lives_until(connection, 16)
    assert connection.transport.closed
    await connection.close()


async def test_refused_upload_is_read_up_to_a_limit() -> None:
    connection = await talk(b"nonsense\r\n\r\n")
    await connection.send(b"x" * 65_536)
    assert not connection.transport.closed
    await connection.send(b"x")
    assert connection.transport.closed
    assert connection.statuses == [400]
    await connection.close()


class FakeConnection:
    """Have a deadline, and count how often it passed."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.expired = 0

    def expire(self) -> None:
        self.expired += 1


async def test_sweeper_expires_what_is_overdue_and_keeps_the_date(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(edges, "SWEEP_SECONDS", 0.001)
    loop = asyncio.get_running_loop()
    members = [FakeConnection(0.0), FakeConnection(0.5), FakeConnection(loop.time() + 1000)]
    edge = Edge(EchoHandler(), EdgeLimits(), hosts=HostAllowlist(), trusted_proxies=())
    edge.date_line = b""
    sweeper = asyncio.create_task(edge.run(members))
    async with asyncio.timeout(10):
        while members[1].expired < 2:
            assert not sweeper.done()
            await asyncio.sleep(0.001)
    sweeper.cancel()
    assert [members[0].expired, members[2].expired] == [0, 0]
    assert edge.date_line.startswith(b"date: ")
    date = email.utils.parsedate_to_datetime(edge.date_line[6:-2].decode())
    assert abs(date.timestamp() - time.time()) < 30
    assert edge.date_line.endswith(b" GMT\r\n")


async def test_connections_share_what_the_server_counts() -> None:
    state = ServerState()
    connection = EdgeConnection(EchoHandler(), state=state)
    assert state.connections == {connection.protocol}
    await connection.send(GET + GET)
    await connection.settle()
    assert state.total_requests == 2
    assert state.tasks == set()
    await connection.close()
    assert state.connections == set()
