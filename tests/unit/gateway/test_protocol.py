"""One connection of the edge in this process: what it answers, and when it closes."""

from __future__ import annotations

import asyncio

import pytest

from headgate.gateway.limits import EdgeLimits
from headgate.kit.errors import HeadgateError
from headgate.relay.concurrency import ConcurrencyLimitError
from tests.fakes.edge_connection import EchoHandler, EdgeConnection

pytestmark = pytest.mark.anyio
HEAD = b"host: a\r\n"
GET = b"GET /v1/x HTTP/1.1\r\n" + HEAD + b"\r\n"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def post(body: bytes, *, target: bytes = b"/v1/x", more: bytes = b"") -> bytes:
    line = b"POST " + target + b" HTTP/1.1\r\n"
    return line + HEAD + more + b"content-length: %d\r\n\r\n" % len(body) + body


async def converse(
    *chunks: bytes, limits: EdgeLimits | None = None, refusing: HeadgateError | None = None
) -> tuple[EchoHandler, EdgeConnection]:
    handler = EchoHandler(body_bytes_max=64)
    handler.refusing = refusing
    connection = EdgeConnection(handler, limits)
    for chunk in chunks:
        await connection.send(chunk)
    for _ in range(20):
        await asyncio.sleep(0)
    return handler, connection


def statuses(connection: EdgeConnection) -> list[int]:
    parts = connection.transport.written.split(b"HTTP/1.1 ")[1:]
    return [int(part[:3]) for part in parts]


async def test_requests_on_one_connection_are_answered_in_order() -> None:
    handler, connection = await converse(
        post(b"one") + GET + post(b"two", target=b"/v1/y?z=1"), GET
    )
    assert handler.seen == [
        (b"POST", b"/v1/x", b"one"),
        (b"GET", b"/v1/x", b""),
        (b"POST", b"/v1/y?z=1", b"two"),
        (b"GET", b"/v1/x", b""),
    ]
    assert statuses(connection) == [200, 200, 200, 200]
    assert connection.transport.written.index(b"one") < connection.transport.written.index(b"two")
    assert not connection.transport.closed
    await connection.close()


async def test_connection_close_of_the_client_is_obeyed() -> None:
    handler, connection = await converse(post(b"x", more=b"connection: close\r\n") + GET)
    assert [body for _, _, body in handler.seen] == [b"x"]
    assert b"connection: close\r\n" in connection.transport.written
    assert connection.transport.closed
    await connection.close()


async def test_body_in_chunks_is_put_together() -> None:
    head = b"POST /v1/x HTTP/1.1\r\n" + HEAD + b"transfer-encoding: chunked\r\n\r\n"
    handler, connection = await converse(head, b"3\r\nab", b"c\r\n2\r\nde\r\n", b"0\r\n\r\n" + GET)
    assert [body for _, _, body in handler.seen] == [b"abcde", b""]
    await connection.close()


async def test_expect_100_continue_is_answered() -> None:
    asking = post(b"abc", more=b"expect: 100-continue\r\n")
    handler, connection = await converse(asking[:-3])
    assert connection.transport.written == b"HTTP/1.1 100 Continue\r\n\r\n"
    await connection.send(asking[-3:])
    await connection.send(b"")
    assert handler.seen == [(b"POST", b"/v1/x", b"abc")]
    assert statuses(connection) == [100, 200]
    await connection.close()


@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [
        (b"nonsense\r\n\r\n", 400, "malformed_request"),
        (b"GET /v1/x HTTP/1.1\r\n\r\n", 400, "malformed_request"),
        (b"GET /v1/x HTTP/1.1\r\n" + HEAD + HEAD + b"\r\n", 400, "malformed_request"),
        (GET.replace(b"host: a", b"host: a/b"), 400, "malformed_request"),
        (GET.replace(b"HTTP/1.1", b"HTTP/1.9"), 400, "malformed_request"),
        (post(b"x", more=b"transfer-encoding: chunked\r\n"), 400, "malformed_request"),
        (post(b"x", more=b"content-length: 1\r\n"), 400, "malformed_request"),
        (post(b"x", more=b"transfer-encoding: gzip, chunked\r\n"), 400, "malformed_request"),
        (GET.replace(HEAD, HEAD + b"x: " + b"y" * 600 + b"\r\n"), 431, "headers_too_large"),
        (GET.replace(HEAD, HEAD + b"x: y\r\n" * 8), 431, "headers_too_large"),
        (GET.replace(b"/v1/x", b"/v1/" + b"x" * 61), 414, "target_too_long"),
        (post(b"x" * 65), 413, "request_too_large"),
    ],
)
async def test_refused_request_is_answered_once_and_ends_the_connection(
    request_bytes: bytes, status: int, code: str
) -> None:
    limits = EdgeLimits(header_bytes_max=512, header_count_max=8, target_bytes_max=64)
    for chunks in (
        [request_bytes + GET],
        [request_bytes, GET],
        [request_bytes[:9], request_bytes[9:]],
    ):
        handler, connection = await converse(*chunks, limits=limits)
        assert statuses(connection) == [status]
        assert [error.code for error in handler.refusals] == [code]
        assert b"connection: close\r\n" in connection.transport.written
        assert all(method == b"POST" for method, _, _ in handler.seen)
        await connection.close()


async def test_largest_head_target_and_body_are_served() -> None:
    limits = EdgeLimits(header_count_max=2, target_bytes_max=5)
    handler, connection = await converse(post(b"x" * 64), limits=limits)
    assert statuses(connection) == [200]
    assert len(handler.seen[0][2]) == 64
    await connection.close()


async def test_unfinished_head_gets_408_and_an_idle_connection_none() -> None:
    _, connection = await converse(GET[:20])
    connection.wait(11)
    assert statuses(connection) == [408]
    await connection.close()
    _, idle = await converse(GET)
    assert statuses(idle) == [200]
    idle.wait(76)
    assert idle.transport.closed
    assert statuses(idle) == [200]
    await idle.close()


async def test_connection_over_the_limit_gets_an_error() -> None:
    handler, connection = await converse(limits=EdgeLimits(connections_max=0))
    assert statuses(connection) == [503]
    assert [error.code for error in handler.refusals] == ["too_many_connections"]
    await connection.close()


async def test_call_refused_by_its_head_keeps_the_connection() -> None:
    handler, connection = await converse(
        GET, post(b"body"), refusing=ConcurrencyLimitError("Too many.")
    )
    assert [error.code for error in handler.refusals] == ["overloaded", "overloaded"]
    assert statuses(connection) == [503, 503]
    assert handler.seen == []
    await connection.close()
