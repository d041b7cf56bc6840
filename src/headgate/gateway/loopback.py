"""Send a request through a handler without a connection: what the edge does, in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal, Protocol

import msgspec

from headgate.gateway.cors import CorsPolicy
from headgate.gateway.exchange import InboundExchange, release_memory
from headgate.kit.errors import HeadgateError
from headgate.kit.http.message import Headers

HEAD_END = b"\r\n\r\n"


class ExchangeHandler(Protocol):
    def open(self, exchange: InboundExchange) -> None: ...

    async def run(self, exchange: InboundExchange) -> None: ...

    def refuse(self, exchange: InboundExchange, error: HeadgateError) -> None: ...


class LoopbackAnswer(msgspec.Struct, frozen=True):
    status: int
    headers: Headers
    body: bytes


class LoopbackConnection:
    """Be the connection of one exchange (`gateway.exchange.ClientConnection`), and keep what is
    written."""

    scheme: Literal["http", "https"] | None = "http"
    cors: CorsPolicy | None = None
    date_line = b""
    is_slow = False

    def __init__(self, address: str = "", *, bytes_max: int | None = None) -> None:
        """Keep no more than `bytes_max` of an answer; `overflowed` is done where it is larger."""
        self.overflowed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._address = address
        self._bytes_left = bytes_max
        self._written: list[bytes] = []

    @property
    def write(self) -> Callable[[bytes], None]:
        return self._written.append if self._bytes_left is None else self._keep

    def _keep(self, data: bytes) -> None:
        self._bytes_left = (self._bytes_left or 0) - len(data)
        if self._bytes_left >= 0:
            self._written.append(data)
        elif not self.overflowed.done():
            self._written.clear()
            self.overflowed.set_result(None)

    def complete(self, exchange: InboundExchange, *, keep: bool) -> None:
        """Release the memory of the body: there is no next request."""
        release_memory(exchange)

    def pause_body(self) -> None:
        """Do nothing: the whole body is here."""

    def resume_body(self) -> None:
        """Do nothing: the whole body is here."""

    def find_client_address(self, headers: Headers) -> str:
        return self._address

    def read_answer(self) -> LoopbackAnswer:
        head, _, body = b"".join(self._written).partition(HEAD_END)
        first, *lines = head.split(b"\r\n")
        pairs = [line.partition(b":") for line in lines]
        headers = [(name.lower(), value.strip()) for name, _, value in pairs]
        return LoopbackAnswer(int(first.split(b" ", 2)[1]), headers, body)


def open_exchange(
    handler: ExchangeHandler,
    method: bytes,
    target: bytes,
    headers: Headers,
    body: bytes,
    *,
    address: str = "",
    answer_bytes_max: int | None = None,
) -> tuple[LoopbackConnection, InboundExchange]:
    """Return an exchange that the handler can run, or has refused. `address` is the client's."""
    connection = LoopbackConnection(address, bytes_max=answer_bytes_max)
    # HTTP/1.0, so that a stream has no chunks.
    exchange = InboundExchange(
        connection,
        method,
        target,
        [*headers, (b"content-length", b"%d" % len(body))],
        http_version="1.0",
        keep_alive=False,
    )
    exchange.feed(body)
    try:
        handler.open(exchange)
    except HeadgateError as error:
        handler.refuse(exchange, error)
    else:
        exchange.end()
    return connection, exchange


async def send(
    handler: ExchangeHandler, method: bytes, target: bytes, headers: Headers, body: bytes
) -> LoopbackAnswer:
    """Return the answer of a handler. Its body is without any transfer coding."""
    connection, exchange = open_exchange(handler, method, target, headers, body)
    if not exchange.response_complete:
        await handler.run(exchange)
    return connection.read_answer()
