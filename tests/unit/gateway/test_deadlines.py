"""How long a connection waits for its client, to the moment (C3): time is the test's own."""

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
from tests.fakes.wire import EchoHandler, Line, ScriptedHandler

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


async def talk(*chunks: bytes, handler: EchoHandler | None = None) -> Line:
    line = Line(handler or EchoHandler(), LIMITS, app=read_all)
    for chunk in chunks:
        await line.send(chunk)
    await line.settle()
    return line


def endure(line: Line, seconds: float) -> bool:
    """Whether a connection lives until a moment, and not a moment longer."""
    written = line.wire.written
    line.wait(seconds)
    lives = not line.wire.closed and line.wire.written == written
    line.wait(STEP)
    return lives and (line.wire.closed or line.wire.written != written)


def take_long(exchange: InboundExchange) -> None:
    exchange.may_take_long = True
    exchange.body_bytes_max = 10**6


async def linger(exchange: InboundExchange) -> None:
    await asyncio.Event().wait()


async def test_first_request_has_its_time_and_then_the_connection_just_closes() -> None:
    line = await talk()
    assert endure(line, 20)
    assert (line.wire.written, line.wire.closed) == (b"", True)
    await line.close()


@pytest.mark.parametrize("before", [b"", GET])
async def test_head_has_its_time_from_its_first_byte_whatever_trickles(before: bytes) -> None:
    line = await talk(*([before] if before else []))
    line.wait(5)
    await line.send(GET[:9])
    line.wait(6)
    await line.send(GET[9:20])
    assert endure(line, 2)
    assert line.statuses[-1] == 408
    assert b"connection: close\r\n" in line.wire.written
    await line.close()


async def test_refusal_of_a_late_head_says_so() -> None:
    handler = EchoHandler()
    line = await talk(GET[:9], handler=handler)
    line.wait(9)
    assert [each.message for each in handler.refusals] == ["The request did not arrive in time."]
    assert [each.code for each in handler.refusals] == ["request_timeout"]
    await line.close()


async def test_idle_connection_is_kept_and_then_just_closed() -> None:
    line = await talk(GET)
    assert endure(line, 70)
    assert (line.statuses, line.wire.closed) == ([200], True)
    await line.close()


@pytest.mark.parametrize("request_bytes", [POST, CONTROL])
async def test_body_that_does_not_come_has_its_grace(request_bytes: bytes) -> None:
    line = await talk(request_bytes, handler=ScriptedHandler(linger, take_long))
    assert endure(line, 4)
    await line.close()


@pytest.mark.parametrize("request_bytes", [POST, CONTROL])
async def test_bytes_of_a_body_buy_time_at_the_least_rate_up_to_a_grace(
    request_bytes: bytes,
) -> None:
    line = await talk(request_bytes, handler=ScriptedHandler(linger, take_long))
    await line.send(b"x" * 16)
    line.wait(4 + STEP)
    assert not line.wire.closed
    assert line.protocol.deadline == line.loop.now + 1 - STEP
    await line.send(b"x" * 32)
    line.wait(1)
    await line.send(b"x" * 160)
    line.wait(2)
    assert line.protocol.deadline == line.loop.now + 4 - STEP
    assert endure(line, 4 - STEP)
    await line.close()


async def test_body_that_bought_just_the_time_that_has_passed_is_late() -> None:
    line = await talk(POST, handler=ScriptedHandler(linger, take_long))
    await line.send(b"x" * 16)
    line.wait(5)
    assert line.statuses == [408]
    await line.close()


async def trickle(line: Line, seconds: int) -> int:
    """Send just enough for a while; the seconds until the connection was refused or closed."""
    for second in range(seconds):
        await line.send(b"x" * 16)
        line.wait(1)
        if line.wire.closed or line.wire.written:
            return second + 1
    return seconds


async def test_body_that_is_held_whole_has_an_end_however_it_trickles() -> None:
    line = await talk(POST.replace(b"1000", b"3000"))
    assert await trickle(line, 100) == 61
    assert line.statuses == [408]
    await line.close()
    control = await talk(CONTROL.replace(b"1000", b"3000"))
    assert await trickle(control, 100) == 61
    await control.close()


async def test_body_that_may_take_long_has_only_its_rate() -> None:
    line = await talk(POST.replace(b"1000", b"3000"), handler=ScriptedHandler(linger, take_long))
    assert await trickle(line, 100) == 100
    assert not line.wire.closed
    await line.close()


async def test_request_that_is_answered_is_not_hurried() -> None:
    line = await talk(GET, handler=ScriptedHandler(linger))
    line.wait(10**6)
    assert not line.wire.closed
    assert line.wire.written == b""
    await line.close()


async def test_client_that_takes_nothing_is_cut_and_one_that_takes_something_is_not() -> None:
    line = await talk(GET, handler=ScriptedHandler(linger))
    line.wire.unsent_bytes = 100
    line.protocol.pause_writing()
    line.wait(16)
    assert line.protocol.deadline == line.loop.now
    line.wait(STEP)
    assert line.protocol.deadline == line.loop.now + 16
    line.wire.unsent_bytes = 99
    line.wait(16 + STEP)
    assert not line.wire.aborted
    line.wait(16)
    assert not line.wire.aborted
    line.wait(STEP)
    assert line.wire.aborted
    await line.close()


async def test_answer_nobody_takes_before_the_close_is_cut_too() -> None:
    line = await talk(GET.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
    assert line.wire.closed
    line.wire.unsent_bytes = 100
    line.wait(16 + STEP)
    assert not line.wire.aborted
    line.wait(16)
    assert not line.wire.aborted
    line.wait(STEP)
    assert line.wire.aborted
    await line.close()


async def test_client_that_catches_up_between_requests_is_waited_for_as_an_idle_one() -> None:
    line = await talk(GET)
    line.protocol.pause_writing()
    line.wait(10)
    line.protocol.resume_writing()
    assert endure(line, 70)
    await line.close()


async def test_client_that_catches_up_with_its_answer_is_not_hurried() -> None:
    line = await talk(GET, handler=ScriptedHandler(linger))
    line.protocol.pause_writing()
    line.protocol.resume_writing()
    assert line.protocol.deadline == 0.0
    await line.close()


async def test_body_goes_on_to_be_waited_for_once_the_client_reads() -> None:
    line = await talk(POST, handler=ScriptedHandler(linger, take_long))
    line.protocol.pause_writing()
    line.protocol.resume_writing()
    assert endure(line, 4)
    await line.close()


async def test_refused_sender_is_heard_out_for_a_moment() -> None:
    line = await talk(b"nonsense\r\n\r\n")
    assert (line.statuses, line.wire.half_closed, line.wire.closed) == ([400], True, False)
    line.wait(2)
    assert not line.wire.closed
    line.wait(STEP)
    assert line.wire.closed
    await line.close()


async def test_refused_sender_that_reads_slowly_is_not_taken_for_an_idle_one() -> None:
    line = await talk(b"nonsense\r\n\r\n")
    line.protocol.pause_writing()
    line.protocol.resume_writing()
    assert endure(line, 16)
    assert line.wire.closed
    await line.close()


async def test_refused_sender_is_heard_out_for_so_many_bytes() -> None:
    line = await talk(b"nonsense\r\n\r\n")
    await line.send(b"x" * 65_536)
    assert not line.wire.closed
    await line.send(b"x")
    assert line.wire.closed
    assert line.statuses == [400]
    await line.close()


class Member:
    """Something with a deadline; it counts how often it passed."""

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
    members = [Member(0.0), Member(0.5), Member(loop.time() + 1000)]
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
    line = Line(EchoHandler(), state=state)
    assert state.connections == {line.protocol}
    await line.send(GET + GET)
    await line.settle()
    assert state.total_requests == 2
    assert state.tasks == set()
    await line.close()
    assert state.connections == set()
