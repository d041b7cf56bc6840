"""The client's address, as a handler reads it on a real connection."""

from __future__ import annotations

import asyncio
import functools
import socket

import pytest
import uvicorn

from headgate.gateway.edge import Edge
from headgate.gateway.exchange import InboundExchange
from headgate.gateway.forwarding import parse_networks
from headgate.gateway.hosts import HostAllowlist
from headgate.gateway.limits import EdgeLimits
from headgate.gateway.protocol import EdgeProtocol
from headgate.kit.errors import HeadgateError


class Echo:
    """Answer with the client's address."""

    def open(self, exchange: InboundExchange) -> None:
        exchange.body_complete = True

    async def run(self, exchange: InboundExchange) -> None:
        try:
            exchange.answer(200, b"", exchange.client_address.encode())
        except HeadgateError as error:
            self.refuse(exchange, error)

    def refuse(self, exchange: InboundExchange, error: HeadgateError) -> None:
        exchange.answer(error.kind.value, b"", error.code.encode())


async def ask(trusted: tuple[str, ...], head: bytes) -> bytes:
    """Return the response body of one request, through an edge with these trusted proxies."""
    edge = Edge(
        Echo(),
        EdgeLimits(),
        hosts=HostAllowlist(),
        trusted_proxies=parse_networks(trusted, allow_any=False),
    )
    config = uvicorn.Config("headgate.api.app:build_app", proxy_headers=False)
    state = uvicorn.Server(config).server_state
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(
        functools.partial(EdgeProtocol, config, state, {}, loop, edge=edge), "127.0.0.1", 0
    )
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, family=socket.AF_INET)
        writer.write(b"GET /v1/me HTTP/1.1\r\nhost: a\r\nconnection: close\r\n%b\r\n" % head)
        said = await reader.read()
        writer.close()
        await writer.wait_closed()
    return said.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize(
    ("trusted", "head", "said"),
    [
        ((), b"", b"127.0.0.1"),
        ((), b"X-Forwarded-For: 1.2.3.4\r\n", b"127.0.0.1"),
        (("10.0.0.0/8",), b"X-Forwarded-For: 1.2.3.4\r\n", b"127.0.0.1"),
        (("127.0.0.1",), b"", b"127.0.0.1"),
        (("127.0.0.1",), b"X-Forwarded-For: 1.2.3.4\r\n", b"1.2.3.4"),
        (("127.0.0.1",), b"X-Forwarded-For: 9.9.9.9\r\nx-forwarded-FOR: 1.2.3.4\r\n", b"1.2.3.4"),
        (("127.0.0.1",), b"X_Forwarded_For: 1.2.3.4\r\n", b"127.0.0.1"),
        (("127.0.0.1",), b"Forwarded: for=1.2.3.4\r\n", b"1.2.3.4"),
        (("127.0.0.1",), b"X-Forwarded-For: who\r\n", b"malformed_forwarded_address"),
    ],
)
def test_client_address_is_the_peer_or_named_by_a_trusted_proxy(
    trusted: tuple[str, ...], head: bytes, said: bytes
) -> None:
    assert asyncio.run(ask(trusted, head)) == said
