"""Limits of a request head to the byte, and the messages of its errors."""

from __future__ import annotations

import pytest

from headgate.gateway import framing
from headgate.gateway.hosts import HostAllowlist
from headgate.gateway.limits import EdgeLimits
from headgate.gateway.request_parser import LINE_BYTES
from headgate.kit.errors import HeadgateError
from tests.fakes.edge_connection import GET, EchoHandler, EdgeConnection

pytestmark = pytest.mark.anyio
HOST = b"host: a\r\n"
POST = b"POST /v1/x HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc"
LIMITS = EdgeLimits(header_bytes_max=128, header_count_max=8, target_bytes_max=32)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def talk(
    *chunks: bytes, limits: EdgeLimits = LIMITS, hosts: HostAllowlist | None = None
) -> tuple[EchoHandler, EdgeConnection]:
    handler = EchoHandler()
    connection = EdgeConnection(handler, limits, hosts=hosts)
    for chunk in chunks:
        await connection.send(chunk)
    await connection.settle()
    return handler, connection


def cut(raw: bytes) -> list[list[bytes]]:
    """Yield a request whole, after another request, in two pieces, and byte by byte."""
    return [
        [raw],
        [GET, raw],
        *([raw[:at], raw[at:]] for at in (1, 2, 9, 25, 40, 45, 110, len(raw) - 1) if at < len(raw)),
        [raw[at : at + 1] for at in range(len(raw))],
    ]


def fields(count: int, size: int) -> bytes:
    """Return so many header lines, Host first, of so many bytes in all."""
    lines = [HOST] + [b"x: y\r\n"] * (count - 2)
    spare = size - sum(map(len, lines)) - 5
    return b"".join(lines) + b"z:" + b" " + b"w" * spare + b"\r\n"


@pytest.mark.parametrize(
    ("target_bytes", "count", "header_bytes", "status", "message"),
    [
        (32, 8, 128, 200, None),
        (9, 2, 128, 200, None),
        (9, 8, 100, 200, None),
        (33, 2, 60, 414, "The request target is longer than 32 bytes."),
        (9, 9, 100, 431, "At most 8 headers of 128 bytes in all are accepted."),
        (9, 2, 129, 431, "At most 8 headers of 128 bytes in all are accepted."),
        (32, 8, 129, 431, "At most 8 headers of 128 bytes in all are accepted."),
    ],
)
async def test_head_limits_are_exact_to_the_byte(
    target_bytes: int, count: int, header_bytes: int, status: int, message: str | None
) -> None:
    target = b"/v1/".ljust(target_bytes, b"x")
    raw = b"GET %b HTTP/1.1\r\n%b\r\n" % (target, fields(count, header_bytes))
    for chunks in cut(raw):
        handler, connection = await talk(*chunks)
        assert connection.statuses[-1] == status, len(chunks)
        assert [each.message for each in handler.refusals] == ([message] if message else [])
        assert ((b"GET", target, b"") in handler.seen) is (status == 200)
        await connection.close()


@pytest.mark.parametrize("size", [1, 1000])
async def test_endless_head_is_refused_at_the_limit(size: int) -> None:
    endless = b"GET /v1/x HTTP/1.1\r\nhost: a\r\nx: "
    handler, connection = await talk(endless, b"y" * 100, b"y" * (60 + LINE_BYTES))
    assert connection.statuses == []
    await connection.send(b"y" * size)
    assert connection.statuses == [431]
    assert [each.message for each in handler.refusals] == ["The request head is too large."]
    await connection.close()
    _, behind = await talk(GET, endless, b"y" * (160 + LINE_BYTES))
    assert behind.statuses == [200]
    await behind.send(b"y")
    assert behind.statuses == [200, 431]
    await behind.close()


NOT_HTTP = "The request is not valid HTTP/1.1."
ONE_HOST = "A request must have exactly one Host header."
NO_HOST = "The Host header is not a host name with or without a port."
VERSIONS = "Only HTTP/1.1 and HTTP/1.0 are supported."
LINE = "The request line is not a method, a target and a version with one space between them."
CODING = "The only supported transfer coding is `chunked`, once, and on HTTP/1.1."
NAMED = "The Connection header names one that it must not remove."
EXPECTATION = "The only expectation that can be met is 100-continue."
TARGET = "The request target is neither a path nor an http URL."
OTHER_HOST = "The request target and the Host header name different hosts."
WEBSOCKET = (
    "WebSocket is not supported here. Send the same request over HTTP: POST, with "
    '"stream": true for events as they come.'
)


def get(*lines: bytes, line: bytes = b"GET /v1/x HTTP/1.1") -> bytes:
    return b"\r\n".join([line, b"host: a", *lines, b"", b""])


@pytest.mark.parametrize(
    ("raw", "code", "message"),
    [
        (b"x\r\n\r\n", "malformed_request", NOT_HTTP),
        (GET.replace(HOST, b""), "malformed_request", ONE_HOST),
        (get(b"host: a"), "malformed_request", ONE_HOST),
        (GET.replace(b"host: a", b"host: a/b"), "malformed_request", NO_HOST),
        (get(line=b"GET /v1/x HTTP/0.9"), "malformed_request", VERSIONS),
        (get(line=b"GET /v1/x HTTP/2.0"), "malformed_request", VERSIONS),
        (get(line=b"GET  /v1/x HTTP/1.1"), "malformed_request", LINE),
        (get(b"transfer-encoding: gzip", line=b"POST /v1/x HTTP/1.1"), "malformed_request", None),
        (
            get(b"transfer-encoding: chunked", b"expect: 1", line=b"POST /v1/x HTTP/1.1"),
            "expectation_failed",
            EXPECTATION,
        ),
        (
            get(b"transfer-encoding: chunked", line=b"POST /v1/x HTTP/1.0"),
            "malformed_request",
            CODING,
        ),
        (
            get(b"content_length: 1"),
            "malformed_request",
            "content_length is not accepted as a header name; use a dash.",
        ),
        (get(b"connection: x, Host"), "malformed_request", NAMED),
        (get(b"connection: authorization"), "malformed_request", NAMED),
        (get(b"expect: 200-ok"), "expectation_failed", EXPECTATION),
        (get(b"content-length: 1"), "malformed_request", "A GET request must not have a body."),
        (
            get(b"transfer-encoding: chunked", line=b"HEAD /v1/x HTTP/1.1"),
            "malformed_request",
            "A HEAD request must not have a body.",
        ),
        (get(line=b"GET * HTTP/1.1"), "malformed_request", TARGET),
        (get(line=b"GET /v1/x#y HTTP/1.1"), "malformed_request", TARGET),
        (get(line=b"GET /x#y HTTP/1.1"), "malformed_request", TARGET),
        (get(line=b"GET http://b/v1/x HTTP/1.1"), "malformed_request", OTHER_HOST),
        (
            get(line=b"CONNECT a:443 HTTP/1.1"),
            "connect_unsupported",
            "This server is not a proxy: CONNECT is not supported.",
        ),
        (get(b"connection: upgrade", b"upgrade: websocket"), "websocket_unsupported", WEBSOCKET),
        (
            get(b"transfer-encoding: chunked", line=b"POST /v1/x HTTP/1.1")
            + b"0\r\nX-Api_Key: x\r\n\r\n",
            "malformed_request",
            "X-Api_Key cannot be a trailer.",
        ),
    ],
)
async def test_request_error_says_what_is_wrong(raw: bytes, code: str, message: str | None) -> None:
    handler, connection = await talk(raw, limits=EdgeLimits())
    assert len(connection.statuses) == 1
    error = handler.refusals[0]
    assert error.code == code
    assert message is None or error.message == message
    assert error.should_retry is (False if code.endswith("_unsupported") else None)
    assert handler.seen == []
    await connection.close()


@pytest.mark.parametrize(
    ("raw", "target"),
    [
        (get(line=b"GET http://a/v1/x HTTP/1.1"), b"/v1/x"),
        (get(line=b"GET HTTPS://A/v1/x?y=http://b HTTP/1.1"), b"/v1/x?y=http://b"),
        (b"\r\n\n" + GET, b"/v1/x"),
        (b"GET /v1/old HTTP/1.0\r\n\r\n", b"/v1/old"),
        (get(b"connection: Keep-Alive, x"), b"/v1/x"),
        (get(b"connection: Upgrade"), b"/v1/x"),
        (get(b"expect: 100-Continue"), b"/v1/x"),
        (get(b"content-length: 000"), b"/v1/x"),
        (get(b"content-length: 0", line=b"HEAD /v1/x HTTP/1.1"), b"/v1/x"),
        (
            get(b"transfer-encoding: CHUNKED", line=b"POST /v1/x HTTP/1.1")
            + b"0\r\nx-trailer: a\r\n\r\n",
            b"/v1/x",
        ),
        (get(b"content-length: 0", line=b"DELETE /v1/x HTTP/1.1"), b"/v1/x"),
    ],
)
async def test_unusual_but_unambiguous_head_is_served(raw: bytes, target: bytes) -> None:
    for chunks in cut(raw):
        handler, connection = await talk(*chunks, limits=EdgeLimits())
        assert handler.refusals == []
        assert handler.seen[-1][1] == target
        assert connection.statuses[-1] == 200
        await connection.close()


async def test_usual_requests_are_served_at_any_split() -> None:
    for chunks in cut(POST + POST + GET):
        handler, connection = await talk(*chunks, limits=EdgeLimits(), hosts=HostAllowlist())
        assert handler.refusals == []
        assert [body for _, _, body in handler.seen][-3:] == [b"abc", b"abc", b""]
        await connection.close()


async def test_request_line_is_checked_in_pipelined_requests() -> None:
    for first in (POST, GET):
        handler, connection = await talk(
            first + get(line=b"GET  /v1/y HTTP/1.1"), limits=EdgeLimits()
        )
        assert len(handler.seen) == 1
        await connection.close()
        _, connection = await talk(first, get(line=b"GET  /v1/y HTTP/1.1"), limits=EdgeLimits())
        assert connection.statuses == [200, 400]
        await connection.close()


async def test_body_is_not_taken_for_a_request_line() -> None:
    """The valid request line is in the body; the one in the head has two spaces."""
    body = b"GET /v1/y HTTP/1.1\r\n"
    head = b"POST /v1/x HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % len(body)
    handler, connection = await talk(
        head, body, get(line=b"GET  /v1/y HTTP/1.1"), limits=EdgeLimits()
    )
    assert connection.statuses == [200, 400]
    assert len(handler.seen) == 1
    await connection.close()


# What is asked of unusual heads alone.

WATCHED_HEADERS = [(b"connection", b"close, x"), (b"host", b"A:80")]


@pytest.mark.parametrize(
    ("method", "target", "read"),
    [
        (b"OPTIONS", b"*", b"*"),
        (b"GET", b"http://a:80", b"/"),
        (b"GET", b"http://a:80/", b"/"),
        (b"GET", b"http://A:80?b=c", b"/?b=c"),
        (b"GET", b"https://a:80/b/?c", b"/b/?c"),
        (b"GET", b"http://a:80/b#c", TARGET),
        (b"OPTIONS", b"**", TARGET),
        (b"GET", b"*", TARGET),
        (b"GET", b"a:80", TARGET),
        (b"GET", b"http://a", OTHER_HOST),
        (b"GET", b"http://a:80@b", OTHER_HOST),
    ],
)
async def test_absolute_target_needs_the_same_host(
    method: bytes, target: bytes, read: bytes | str
) -> None:
    found = framing.read_target(method, target, WATCHED_HEADERS)
    assert (found.message if isinstance(found, HeadgateError) else found) == read


@pytest.mark.parametrize(
    ("raw", "starts", "is_clear"),
    [
        (b"GET /x HTTP/1.1\r\n", True, True),
        (b"\r\n\r\nGET /x HTTP/1.1\r\n", True, True),
        (b" GET /x HTTP/1.1\r\n", True, False),
        (b"XGET /x HTTP/1.1\r\n", True, False),
        (b"abcGET /x HTTP/1.1\r\n", True, False),
        (b"abcGET /x HTTP/1.1\r\n", False, True),
        (b"abcGET  /x HTTP/1.1\r\n", False, False),
    ],
)
async def test_request_line_is_first_or_follows_a_body(
    raw: bytes, starts: bool, is_clear: bool
) -> None:
    error = framing.check_line(raw, b"GET /x HTTP/1.1\r\n", starts=starts)
    assert (error is None) is is_clear


@pytest.mark.parametrize("watched", [[], [(b"host", b"a"), (b"host", b"a")]])
async def test_absolute_target_needs_one_host(watched: list[tuple[bytes, bytes]]) -> None:
    assert isinstance(framing.read_target(b"GET", b"http://a/", watched), HeadgateError)


async def test_list_header_is_split_and_header_bytes_count_lines() -> None:
    assert framing.list_tokens(b"Close,\tX \t,, a b,\x0b") == [
        b"close",
        b"x",
        b"",
        b"a b",
        b"\x0b",
    ]
    assert framing.count_bytes([(b"host", b"a"), (b"x", b"")]) == len(b"host: a\r\nx: \r\n")


@pytest.mark.parametrize("name", [b"Host", b"Content_Length", b"AUTHORIZATION", b"x-api-key"])
async def test_head_field_is_refused_as_trailer(name: bytes) -> None:
    error = framing.check_trailer(name)
    assert error is not None
    assert error.message == f"{name.decode()} cannot be a trailer."
    assert framing.check_trailer(b"x-" + name) is None
