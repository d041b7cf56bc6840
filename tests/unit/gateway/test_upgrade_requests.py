"""Offers to upgrade the protocol are ignored (RFC 9110 7.8), except for WebSocket."""

from __future__ import annotations

import pytest

from headgate.gateway.limits import EdgeLimits
from headgate.gateway.protocol import PIPELINED_MAX
from headgate.kit.errors import HeadgateError, Kind
from tests.fakes.edge_connection import GET, EchoHandler, EdgeConnection, Seen

pytestmark = pytest.mark.anyio
OFFERS = {
    "h2c": b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAEAAEAA\r\n",
    "TLS": b"Connection: Upgrade\r\nUpgrade: TLS/1.2\r\n",
    "several": b"connection: upgrade\r\nupgrade: h2c, TLS/1.3\r\nupgrade: foo/2\r\n",
    "unnamed": b"connection: Upgrade\r\n",
    "unannounced": b"upgrade: h2c\r\n",
}
POSTED: Seen = (b"POST", b"/v1/x", b"abc")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def post(offer: bytes, *, more: bytes = b"content-length: 3\r\n", body: bytes = b"abc") -> bytes:
    return b"POST /v1/x HTTP/1.1\r\nhost: a\r\n" + offer + more + b"\r\n" + body


async def talk(*chunks: bytes, handler: EchoHandler | None = None) -> EdgeConnection:
    connection = EdgeConnection(handler or EchoHandler(), EdgeLimits())
    for chunk in chunks:
        await connection.send(chunk)
    await connection.settle()
    return connection


def cut(raw: bytes) -> list[list[bytes]]:
    return [
        [raw],
        *([raw[:at], raw[at:]] for at in range(1, len(raw), 7)),
        [raw[at : at + 1] for at in range(len(raw))],
    ]


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
async def test_request_with_an_upgrade_offer_is_served_as_http_1_1(
    offer: bytes,
) -> None:
    chunked = post(offer, more=b"transfer-encoding: chunked\r\n", body=b"3\r\nabc\r\n0\r\n\r\n")
    get = GET.replace(b"\r\n\r\n", b"\r\n" + offer + b"\r\n")
    raw = post(offer) + chunked + get + GET
    for chunks in cut(raw):
        handler = EchoHandler()
        connection = await talk(*chunks, handler=handler)
        assert handler.seen == [POSTED, POSTED, (b"GET", b"/v1/x", b""), (b"GET", b"/v1/x", b"")]
        assert handler.refusals == []
        assert connection.statuses == [200] * 4
        assert not connection.transport.closed
        await connection.close()


async def test_upgrade_offer_is_not_forwarded() -> None:
    headers: list[tuple[bytes, bytes]] = []

    class Handler(EchoHandler):
        def open(self, exchange: object) -> None:
            headers.extend(exchange.headers)  # type: ignore[attr-defined]
            super().open(exchange)  # type: ignore[arg-type]

    connection = await talk(post(OFFERS["h2c"]), handler=Handler())
    assert {name for name, _ in headers} == {b"host", b"connection", b"content-length"}
    await connection.close()


async def test_upgrade_offer_with_expect_gets_100_continue() -> None:
    handler = EchoHandler()
    asking = post(OFFERS["TLS"], more=b"expect: 100-continue\r\ncontent-length: 3\r\n")
    connection = await talk(asking[:-3], handler=handler)
    assert connection.statuses == [100]
    await connection.send(asking[-3:])
    await connection.settle()
    assert connection.statuses == [100, 200]
    assert handler.seen == [POSTED]
    await connection.close()


async def test_bytes_after_the_body_are_the_next_request() -> None:
    """Frames of another protocol are not HTTP/1.1, so they are refused."""
    handler = EchoHandler()
    connection = await talk(
        post(OFFERS["h2c"]) + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + GET, handler=handler
    )
    assert handler.seen == [POSTED]
    assert connection.statuses == [200]
    connection.wait(1000)
    assert connection.transport.closed
    await connection.close()


async def test_pipelined_upgrade_offers_are_answered_in_order() -> None:
    handler = EchoHandler()
    handler.refusing = NoKeyError("No key.")
    get = GET.replace(b"\r\n\r\n", b"\r\n" + OFFERS["TLS"] + b"\r\n")
    connection = await talk(get * 2000, handler=handler)
    assert connection.statuses == [401] * 2000
    await connection.close()
    handler = EchoHandler()
    connection = await talk(get * (PIPELINED_MAX + 9), handler=handler)
    for _ in range(PIPELINED_MAX):
        await connection.settle()
    assert set(connection.statuses) == {200}
    assert len(handler.seen) == PIPELINED_MAX + 1
    await connection.close()


class NoKeyError(HeadgateError):
    kind = Kind.UNAUTHENTICATED
    code = "missing_api_key"


@pytest.mark.parametrize("target", [b"/v1/responses", b"/v1/realtime?model=x", b"/ws", b"/api/me"])
async def test_websocket_handshake_gets_426_and_closes(
    target: bytes,
) -> None:
    raw = (
        b"GET %b HTTP/1.1\r\nhost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" % target
    )
    handler = EchoHandler()
    connection = await talk(raw + b"\x81\x05hello" + GET, handler=handler)
    assert connection.statuses == [426]
    assert [each.code for each in handler.refusals] == ["websocket_unsupported"]
    assert b"connection: close\r\n" in connection.transport.written
    assert handler.seen == []
    await connection.close()


async def test_websocket_handshake_is_a_get_of_http_1_1() -> None:
    offer = b"connection: upgrade\r\nupgrade: websocket\r\n"
    handler = EchoHandler()
    connection = await talk(post(offer), handler=handler)
    assert handler.seen == [POSTED]
    await connection.close()
    old = GET.replace(b"HTTP/1.1", b"HTTP/1.0").replace(b"\r\n\r\n", b"\r\n" + offer + b"\r\n")
    connection = await talk(old)
    assert connection.statuses == [200]
    await connection.close()
