"""Carry one request in progress and its response."""

from __future__ import annotations

import asyncio
from typing import Protocol

from headgate.kit.errors import drop_trace
from headgate.kit.http.errors import DisconnectedError, ResponseTooLargeError
from headgate.kit.http.message import Headers, HoldBytes, Sink, Timeouts

UNHELD_BYTES = 64 * 1024
"""Bytes of a body held without being counted, as the number of calls is limited; `hold` is told of
more."""
UNCLAIMED_BYTES_MAX = 256 * 1024
"""Bytes of a body taken from the socket before it is read or streamed."""


class PausableConnection(Protocol):
    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def drop(self) -> None:
        """Close the socket without telling the exchange."""
        ...


class UpstreamExchange:
    """Implement `message.Response` for one request.

    `arrival` is done when the head has arrived, or never will: then `error` says why. Futures here
    never carry exceptions, so none can go unretrieved.
    """

    __slots__ = (
        "_bytes_max",
        "_chunks",
        "_connection",
        "_ended",
        "_hold",
        "_reader",
        "_rests",
        "_sink",
        "_size",
        "_size_max",
        "arrival",
        "error",
        "headers",
        "status",
        "timeouts",
    )

    status: int
    headers: Headers

    def __init__(
        self, connection: PausableConnection, timeouts: Timeouts, arrival: asyncio.Future[None]
    ) -> None:
        self.status = 0
        self.timeouts = timeouts
        self.arrival = arrival
        self.error: Exception | None = None
        self._connection: PausableConnection | None = connection
        self._chunks: list[bytes] = []
        self._size = 0
        self._size_max = UNCLAIMED_BYTES_MAX
        self._bytes_max = 0
        self._hold: HoldBytes | None = None
        self._ended = False
        self._rests = False
        self._sink: Sink | None = None
        self._reader: asyncio.Future[None] | None = None

    async def read(self, bytes_max: int, hold: HoldBytes | None = None) -> bytes:
        """Return the whole body.

        Raise `ResponseTooLargeError`, the error that broke the body off, or what `hold` raised when
        it was told of more bytes.
        """
        self._size_max = self._bytes_max = bytes_max
        length = self._size if self._ended else self._find_length()
        if max(length, self._size) > bytes_max:
            self.abort()
            raise ResponseTooLargeError(f"The body is larger than {bytes_max} bytes.")
        if hold is not None and not 0 <= length <= UNHELD_BYTES:
            self._hold = hold
            self._size_max = min(bytes_max, UNHELD_BYTES)
            if max(length, self._size) > self._size_max and (error := self._hold_more(length)):
                self.abort()
                raise error
        if not self._ended:
            await self._wait()
        chunks, self._chunks = self._chunks, []  # whoever keeps this keeps no body
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _find_length(self) -> int:
        """Return the length that the head announces; -1 without one."""
        for name, value in self.headers:
            if name == b"content-length":
                return int(value)
        return -1

    async def _wait(self) -> None:
        if self._connection is not None:
            self._reader = self.arrival.get_loop().create_future()
            self.resume()
            try:
                await self._reader
            except BaseException:  # a cancelled reader leaves an unread body behind
                self.abort()
                raise
        if not self._ended:
            raise self.take_error()

    def stream(self, sink: Sink) -> None:
        """Deliver the body to the sink, beginning with what has arrived already."""
        chunks, self._chunks = self._chunks, []
        self._sink = sink
        if self._size > self._size_max and not self._rests:
            self.resume()
        for chunk in chunks:
            if self._sink is sink:
                sink.on_data(chunk)
        if self._sink is not sink:  # the sink aborted
            return
        if self._ended:
            self._sink = None
            sink.on_end()
        elif self.error is not None:
            self._sink = None
            sink.on_failure(self.take_error())

    def pause(self) -> None:
        """Stop reading from the peer; the idle deadline is suspended until `resume`."""
        self._rests = True
        if self._connection is not None:
            self._connection.pause()

    def resume(self) -> None:
        self._rests = False
        if self._connection is not None:
            self._connection.resume()

    def abort(self) -> None:
        """Close the connection now, unless the exchange is over. Idempotent."""
        connection, self._connection = self._connection, None
        self._sink = None
        if connection is not None:
            connection.drop()
            self.fail(DisconnectedError("The exchange was aborted."))

    def take_error(self) -> Exception:
        """Return the error once, so that its traceback and the exchange make no cycle."""
        error, self.error = self.error, None
        return error or DisconnectedError("The exchange was aborted.")

    def open(self, status: int, headers: Headers) -> None:
        self.status = status
        self.headers = headers
        if not self.arrival.done():
            self.arrival.set_result(None)

    def feed(self, data: bytes) -> Exception | None:
        """Accept the next bytes of the body; return an error if they are too many for `read`."""
        if self._sink is not None:
            self._sink.on_data(data)
            return None
        self._chunks.append(data)
        self._size += len(data)
        if self._size > self._size_max:
            if self._reader is not None:
                return self._hold_more()
            if self._connection is not None:
                self._connection.pause()
        return None

    def _hold_more(self, length: int = -1) -> Exception | None:
        """Report the announced length, or twice what arrived, to `hold`; return its error."""
        if self._hold is None or self._size > self._bytes_max:
            return ResponseTooLargeError(f"The body is larger than {self._bytes_max} bytes.")
        size = length if length >= self._size else min(self._bytes_max, 2 * self._size)
        try:
            self._hold(size - self._size_max)
        except Exception as error:  # noqa: BLE001 - whatever it raises, the reader hears of it
            return drop_trace(error)
        self._size_max = size
        return None

    def end(self) -> None:
        """Complete the body; the connection no longer belongs to this exchange."""
        self._connection = None
        self._ended = True
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.on_end()
        elif self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def fail(self, error: Exception) -> None:
        """Break the exchange off; the connection is closed."""
        self._connection = None
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.on_failure(error)
            return
        self.error = error
        for waiting in (self.arrival, self._reader):
            if waiting is not None and not waiting.done():
                waiting.set_result(None)
