"""Which pages of other origins may read responses."""

from __future__ import annotations

import pytest

from headgate.gateway.cors import CorsMiddleware, CorsPolicy
from headgate.gateway.exchange import InboundExchange
from headgate.gateway.limits import InvalidCorsOriginError
from tests.fakes.edge_connection import (
    BAD,
    EchoHandler,
    EdgeConnection,
    ScriptedHandler,
    answer_nothing,
)

pytestmark = pytest.mark.anyio
APP = b"https://app.example.com"
LISTED = CorsPolicy((APP.decode(), "http://localhost:5173", "app://obsidian.md"))
ANY = CorsPolicy(("*",))
PREFLIGHT = (
    b"access-control-request-method: POST",
    b"access-control-request-headers: authorization, content-type,x-stainless-lang",
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def get(target: bytes, *lines: bytes, origin: bytes = APP, method: bytes = b"GET") -> bytes:
    head = [b"%b %b HTTP/1.1" % (method, target), b"host: a", b"origin: " + origin, *lines]
    return b"\r\n".join([*head, b"", b""])


async def talk(raw: bytes, *, cors: CorsPolicy | None, handler: EchoHandler | None = None) -> bytes:
    """Return everything that the connection sends."""
    app = answer_nothing if cors is None else CorsMiddleware(answer_nothing, cors)
    connection = EdgeConnection(handler or EchoHandler(), app=app, cors=cors)
    await connection.send(raw)
    await connection.settle()
    said = connection.transport.written
    await connection.close()
    return said


@pytest.mark.parametrize("target", [b"/v1/chat/completions", b"/api/projects", b"/mcp"])
async def test_preflight_is_answered_without_a_key_or_handler(target: bytes) -> None:
    handler = EchoHandler()
    said = await talk(get(target, *PREFLIGHT, method=b"OPTIONS"), cors=LISTED, handler=handler)
    assert said.startswith(b"HTTP/1.1 204 ")
    assert b"access-control-allow-origin: https://app.example.com\r\n" in said
    assert b"access-control-allow-methods: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n" in said
    asked = PREFLIGHT[1].partition(b": ")[2]
    assert b"access-control-allow-headers: %b\r\n" % asked in said
    assert b"vary: Origin, Access-Control-Request-Method" in said
    assert b"credentials" not in said
    assert handler.seen == []


async def test_preflight_of_another_origin_is_refused_with_a_message() -> None:
    raw = get(b"/v1/x", *PREFLIGHT, origin=b"https://evil.example", method=b"OPTIONS")
    said = await talk(raw, cors=LISTED)
    assert said.startswith(b"HTTP/1.1 403 ")
    assert b"access-control-allow-origin" not in said
    assert b"https://evil.example is not in HEADGATE_CORS_ORIGINS" in said


@pytest.mark.parametrize("target", [b"/v1/x", b"/api/nothing"])
async def test_only_allowed_origins_may_read_an_answer(target: bytes) -> None:
    said = await talk(get(target), cors=LISTED)
    assert b"access-control-allow-origin: https://app.example.com\r\n" in said
    assert b"access-control-expose-headers: x-request-id, " in said
    assert b"vary: Origin\r\n" in said
    for origin in (b"https://app.example.com.evil", b"https://APP.example.com", b"null", b""):
        said = await talk(get(target, origin=origin), cors=LISTED)
        assert b"access-control-" not in said
        assert b"vary: Origin\r\n" in said


async def test_asterisk_allows_every_origin_without_cookies() -> None:
    for raw in (get(b"/v1/x"), get(b"/v1/x", *PREFLIGHT, method=b"OPTIONS")):
        said = await talk(raw, cors=ANY)
        assert b"access-control-allow-origin: *\r\n" in said
        assert b"credentials" not in said


async def test_allowed_origin_may_read_a_stream() -> None:
    async def stream(exchange: InboundExchange) -> None:
        exchange.start(200, b"content-type: text/event-stream\r\n")
        exchange.write(b"data: 1\n\n")
        exchange.finish()

    said = await talk(get(b"/v1/x"), cors=LISTED, handler=ScriptedHandler(stream))
    assert b"access-control-allow-origin: https://app.example.com\r\n" in said
    assert said.endswith(b"0\r\n\r\n")


async def test_allowed_origin_may_read_an_early_error() -> None:
    offer = (b"connection: upgrade", b"upgrade: websocket")
    assert (await talk(get(b"/v1/x", *offer), cors=LISTED)).count(b"allow-origin: https://app") == 1
    assert (await talk(BAD, cors=LISTED)).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("target", [b"/metrics", b"/health/ready", b"/"])
async def test_operator_endpoints_have_no_cors_headers(target: bytes) -> None:
    for raw in (get(target), get(target, *PREFLIGHT, method=b"OPTIONS")):
        assert b"access-control-" not in await talk(raw, cors=ANY)


async def test_without_origins_there_are_no_cors_headers_and_options_needs_a_key() -> None:
    handler = EchoHandler()
    said = await talk(get(b"/v1/x", *PREFLIGHT, method=b"OPTIONS"), cors=None, handler=handler)
    assert b"access-control-" not in said
    assert b"vary" not in said
    assert handler.seen == [(b"OPTIONS", b"/v1/x", b"")]


async def test_options_without_a_preflight_reaches_the_handler() -> None:
    handler = EchoHandler()
    await talk(get(b"/v1/x", method=b"OPTIONS"), cors=ANY, handler=handler)
    assert handler.seen == [(b"OPTIONS", b"/v1/x", b"")]


async def test_invalid_header_names_are_not_allowed_back() -> None:
    asked = b"access-control-request-headers: a\x01b"
    raw = get(b"/v1/x", PREFLIGHT[0], asked.replace(b"\x01", b"@"), method=b"OPTIONS")
    assert b"allow-headers" not in await talk(raw, cors=ANY)


@pytest.mark.parametrize(
    "origin",
    [
        *("app.example.com", "https://app.example.com/", "https://app.example.com/x", "null", ""),
        *("https://app.example.com:443", "http://localhost:80"),
        *("https://*.example.com", "https://APP.example.com", "https://a:b@c.example", "https://"),
    ],
)
async def test_invalid_origin_is_refused_with_a_message(origin: str) -> None:
    with pytest.raises(InvalidCorsOriginError, match="HEADGATE_CORS_ORIGINS has"):
        CorsPolicy((origin,))
