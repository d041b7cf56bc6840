"""Offers to speak another protocol: ignored, as RFC 9110 7.8 allows, but for WebSocket."""

from __future__ import annotations

import pytest

from headgate.gateway.limits import EdgeLimits
from headgate.gateway.protocol import PIPELINED_MAX
from headgate.kit.errors import HeadgateError, Kind
from tests.fakes.wire import GET, EchoHandler, Line, Seen

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


async def talk(*chunks: bytes, handler: EchoHandler | None = None) -> Line:
    line = Line(handler or EchoHandler(), EdgeLimits())
    for chunk in chunks:
        await line.send(chunk)
    await line.settle()
    return line


def cut(raw: bytes) -> list[list[bytes]]:
    return [
        [raw],
        *([raw[:at], raw[at:]] for at in range(1, len(raw), 7)),
        [raw[at : at + 1] for at in range(len(raw))],
    ]


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
async def test_request_with_an_offer_is_served_with_its_body_and_the_connection_goes_on(
    offer: bytes,
) -> None:
    chunked = post(offer, more=b"transfer-encoding: chunked\r\n", body=b"3\r\nabc\r\n0\r\n\r\n")
    get = GET.replace(b"\r\n\r\n", b"\r\n" + offer + b"\r\n")
    raw = post(offer) + chunked + get + GET
    for chunks in cut(raw):
        handler = EchoHandler()
        line = await talk(*chunks, handler=handler)
        assert handler.seen == [POSTED, POSTED, (b"GET", b"/v1/x", b""), (b"GET", b"/v1/x", b"")]
        assert handler.refusals == []
        assert line.statuses == [200] * 4
        assert not line.wire.closed
        await line.close()


async def test_provider_hears_nothing_of_the_offer() -> None:
    headers: list[tuple[bytes, bytes]] = []

    class Handler(EchoHandler):
        def open(self, exchange: object) -> None:
            headers.extend(exchange.headers)  # type: ignore[attr-defined]
            super().open(exchange)  # type: ignore[arg-type]

    line = await talk(post(OFFERS["h2c"]), handler=Handler())
    assert {name for name, _ in headers} == {b"host", b"connection", b"content-length"}
    await line.close()


async def test_body_that_waits_to_be_asked_for_is_asked_for() -> None:
    handler = EchoHandler()
    asking = post(OFFERS["TLS"], more=b"expect: 100-continue\r\ncontent-length: 3\r\n")
    line = await talk(asking[:-3], handler=handler)
    assert line.statuses == [100]
    await line.send(asking[-3:])
    await line.settle()
    assert line.statuses == [100, 200]
    assert handler.seen == [POSTED]
    await line.close()


async def test_bytes_after_the_body_are_the_next_request_and_never_this_one() -> None:
    """What another protocol would have sent is no HTTP/1.1: it is refused, and the end."""
    handler = EchoHandler()
    line = await talk(
        post(OFFERS["h2c"]) + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + GET, handler=handler
    )
    assert handler.seen == [POSTED]
    assert line.statuses == [200]
    line.wait(1000)
    assert line.wire.closed
    await line.close()


async def test_many_offers_at_once_are_answered_one_by_one() -> None:
    handler = EchoHandler()
    handler.refusing = NoKeyError("No key.")
    get = GET.replace(b"\r\n\r\n", b"\r\n" + OFFERS["TLS"] + b"\r\n")
    line = await talk(get * 2000, handler=handler)
    assert line.statuses == [401] * 2000
    await line.close()
    handler = EchoHandler()
    line = await talk(get * (PIPELINED_MAX + 9), handler=handler)
    for _ in range(PIPELINED_MAX):
        await line.settle()
    assert set(line.statuses) == {200}
    assert len(handler.seen) == PIPELINED_MAX + 1
    await line.close()


class NoKeyError(HeadgateError):
    kind = Kind.UNAUTHENTICATED
    code = "missing_api_key"


@pytest.mark.parametrize("target", [b"/v1/responses", b"/v1/realtime?model=x", b"/ws", b"/api/me"])
async def test_opening_of_a_websocket_is_refused_with_426_and_the_connection_ends(
    target: bytes,
) -> None:
    raw = (
        b"GET %b HTTP/1.1\r\nhost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" % target
    )
    handler = EchoHandler()
    line = await talk(raw + b"\x81\x05hello" + GET, handler=handler)
    assert line.statuses == [426]
    assert [each.code for each in handler.refusals] == ["websocket_unsupported"]
    assert b"connection: close\r\n" in line.wire.written
    assert handler.seen == []
    await line.close()


async def test_websocket_is_opened_by_get_and_from_http_1_1_on_only() -> None:
    offer = b"connection: upgrade\r\nupgrade: websocket\r\n"
    handler = EchoHandler()
    line = await talk(post(offer), handler=handler)
    assert handler.seen == [POSTED]
    await line.close()
    old = GET.replace(b"HTTP/1.1", b"HTTP/1.0").replace(b"\r\n\r\n", b"\r\n" + offer + b"\r\n")
    line = await talk(old)
    assert line.statuses == [200]
    await line.close()
