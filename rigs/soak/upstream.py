"""The provider of a soak: answers from prepared bytes, and fails where the call asks for it."""

from __future__ import annotations

import asyncio
from typing import cast

from rigs.soak import mix
from rigs.soak.mix import CallFault

LATER_SECONDS = 0.05
HEAD_END = b"\r\n\r\n"
LENGTH = b"content-length: "
JSON_HEAD = (
    b"HTTP/1.1 %d Requested\r\ncontent-type: application/json\r\ncontent-length: %d\r\n%b\r\n"
)
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"
    b"x-request-id: req_soak\r\n\r\n"
)
FAILURE = b'{"error":{"message":"The soak asked for this.","type":"server_error","code":null}}'


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _answer(status: int, body: bytes, more: bytes = b"") -> bytes:
    return JSON_HEAD % (status, len(body), more) + body


_BUFFERED = _answer(200, mix.ANSWER, b"x-request-id: req_soak\r\n")
_STREAM_BEGIN = STREAM_HEAD + b"".join(_chunk(event) for event in mix.STREAM[:3])
_STREAM_REST = b"".join(_chunk(event) for event in [*mix.STREAM[3:], mix.USAGE_EVENT, mix.DONE])
_STREAMED_END = _STREAM_REST + b"0\r\n\r\n"


class Upstream:
    """Listen on this machine; `connections` are those that are open."""

    def __init__(self) -> None:
        self.connections: set[Connection] = set()
        self.seen: set[bytes] = set()
        """Calls whose first attempt was refused."""
        self.calls = 0
        self.port = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self), "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def drop_connections(self) -> None:
        """Close every connection, as a provider does with idle ones."""
        for connection in list(self.connections):
            connection.close()

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self.drop_connections()
            await self._server.wait_closed()


class Connection(asyncio.Protocol):
    """Represent one connection of the gateway's pool."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._transport: asyncio.Transport | None = None
        self._waiting = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._upstream.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._upstream.connections.discard(self)
        self._transport = None

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._waiting += data
        head, end, body = self._waiting.partition(HEAD_END)
        if not end:
            return
        _, _, rest = head.lower().partition(LENGTH)
        if len(body) >= int(rest.partition(b"\r\n")[0]):
            self._waiting = b""
            self._upstream.calls += 1
            self._serve(body)

    def _serve(self, body: bytes) -> None:
        number, fault = mix.read_mark(body)
        streams = b'"stream": true' in body or b'"stream":true' in body
        if fault is CallFault.ONCE:
            first = number not in self._upstream.seen
            (self._upstream.seen.add if first else self._upstream.seen.discard)(number)
            fault = CallFault.REFUSE if first else CallFault.NONE
        if fault is CallFault.NONE:
            whole = _STREAM_BEGIN + _STREAMED_END if streams else _BUFFERED
            self._write(whole.replace(mix.SLOT, number))
        elif fault in mix.LEAVES:
            self._linger(number, streams, ends=fault is CallFault.LEAVE)
        else:
            self._fail(fault, streams)

    def _linger(self, number: bytes, streams: bool, *, ends: bool) -> None:
        if streams:
            self._write(_STREAM_BEGIN.replace(mix.SLOT, number))
        if ends:
            rest = _STREAMED_END if streams else _BUFFERED
            later = asyncio.get_running_loop().call_later
            later(LATER_SECONDS, self._write, rest.replace(mix.SLOT, number))

    def _fail(self, fault: CallFault, streams: bool) -> None:
        if fault is CallFault.REFUSE:
            self._write(_answer(500, FAILURE))
        elif fault is CallFault.LIMIT:
            self._write(_answer(429, FAILURE, b"retry-after-ms: 100\r\n"))
        elif fault is CallFault.GARBAGE:
            self._write(_answer(200, b'{"id":"chatcmpl-'))
        else:
            if fault is CallFault.CUT:
                self._write(_STREAM_BEGIN if streams else _BUFFERED[:-100])
            self.close()

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)
