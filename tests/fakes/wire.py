"""A connection of the edge without a socket: bytes in, bytes out, in this process."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.config import Config
from uvicorn.server import ServerState

from headgate.gateway.edge import Edge
from headgate.gateway.exchange import Exchange
from headgate.gateway.forwarding import parse_networks
from headgate.gateway.hosts import Hosts
from headgate.gateway.limits import EdgeLimits
from headgate.gateway.protocol import EdgeProtocol
from headgate.kit.errors import HeadgateError

Seen = tuple[bytes, bytes, bytes]
"""Method, target and body of a request."""


class EchoFace:
    """Answers every request with its body, and remembers what it was asked."""

    def __init__(self, body_bytes_max: int = 4096) -> None:
        self.seen: list[Seen] = []
        self.refusals: list[HeadgateError] = []
        self.refusing: HeadgateError | None = None
        """What every request is refused with by its head."""
        self._body_bytes_max = body_bytes_max

    def open(self, exchange: Exchange) -> None:
        exchange.body_bytes_max = self._body_bytes_max
        exchange.expects_continue = (b"expect", b"100-continue") in exchange.headers
        if self.refusing is not None:
            raise self.refusing

    async def run(self, exchange: Exchange) -> None:
        body = exchange.take_body()
        self.seen.append((exchange.method, exchange.target, body))
        exchange.answer(200, b"", body)

    def refuse(self, exchange: Exchange, error: HeadgateError) -> None:
        self.refusals.append(error)
        exchange.answer(error.kind.value, b"", error.code.encode())


class Wire(asyncio.Transport):
    """The transport: keeps what is written. `paused` says that no more is read for now."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 5), "sockname": ("127.0.0.1", 80)})
        self.written = b""
        self.paused = False
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.closed:
            self.written += bytes(data)

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        pass

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        pass


async def answer_nothing(scope: Any, receive: Any, send: Any) -> None:
    """The ASGI application for everything that is no model call."""
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send({"type": "http.response.body", "body": b""})


class Line:
    """One connection to an edge. Made in a running loop."""

    def __init__(self, face: EchoFace, limits: EdgeLimits | None = None) -> None:
        self.wire = Wire()
        edge = Edge(
            face,
            limits or EdgeLimits(),
            hosts=Hosts(("*",)),
            trusted_proxies=parse_networks((), allow_any=False),
        )
        self.protocol = EdgeProtocol(CONFIG, ServerState(), {}, edge=edge)
        self.protocol.connection_made(self.wire)

    async def send(self, chunk: bytes) -> None:
        """As a socket would: nothing is delivered while reading is paused, or after the end."""
        for _ in range(20):
            if not self.wire.paused:
                break
            await asyncio.sleep(0)
        if chunk and not self.wire.closed and not self.wire.paused:
            self.protocol.data_received(chunk)
        await asyncio.sleep(0)

    async def close(self) -> None:
        """The client hangs up."""
        for _ in range(5):
            await asyncio.sleep(0)
        self.wire.closed = True
        self.protocol.connection_lost(None)


CONFIG = Config(cast("Any", answer_nothing), log_config=None, lifespan="off", proxy_headers=False)
CONFIG.load()
