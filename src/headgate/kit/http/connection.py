"""Carry HTTP/1.1 exchanges, one after the other, on one socket to an origin."""

from __future__ import annotations

import asyncio
import math
import select
import ssl
from collections.abc import AsyncIterator
from typing import Protocol, cast

import msgspec
from httptools import (
    HttpParserCallbackError,
    HttpParserError,
    HttpParserUpgrade,
    HttpResponseParser,
)

from headgate.kit.http.coalescing import CoalescingTransport
from headgate.kit.http.errors import (
    DisconnectedError,
    EgressError,
    FirstByteTimeoutError,
    IdleTimeoutError,
    MalformedResponseError,
    ResponseHeadTooLargeError,
    TotalTimeoutError,
)
from headgate.kit.http.exchange import UpstreamExchange
from headgate.kit.http.head import ends_with_connection, parse_keep_alive
from headgate.kit.http.message import Headers, Request
from headgate.kit.http.upload import upload

JOINED_BYTES_MAX = 64 * 1024
"""Bodies up to this size are copied to join them with their head."""

STALE_SECONDS = 1.0
"""A kept connection that ends later than this after a request was not stale."""
IDLE_MARGIN_SECONDS = 1.0
"""How long before the peer's announced time-out a kept connection is no longer used: what the peer
closes while a request is on its way may have been read, and nobody can tell."""


class HeadLimits(msgspec.Struct, frozen=True):
    bytes_max: int = 64 * 1024
    count_max: int = 256


class ConnectionOwner(Protocol):
    """Take a connection between exchanges."""

    def release(self, connection: UpstreamConnection) -> None:
        """Take back a connection that is ready for another exchange."""
        ...

    def forget(self, connection: UpstreamConnection) -> None: ...


def is_cut(secured: ssl.SSLObject | None) -> bool:
    """Return whether a peer ended without saying so within TLS (close_notify).

    Then anybody on the way may have ended the connection, and a body without a length may be
    incomplete.
    """
    if secured is None:
        return False
    try:
        secured.read(1)
    except ssl.SSLZeroReturnError:
        return False
    except ssl.SSLError:
        return True
    return False


class UpstreamConnection(asyncio.Protocol):
    """Carry one exchange at a time on an `asyncio.Protocol` and enforce its deadlines.

    `seen_at` is the loop's time of the last sign of the peer; `closed` forbids further use;
    `idle_seconds_max` is how long the peer keeps the connection unused, as far as it says.
    """

    __slots__ = (
        "_blocked",
        "_buffered",
        "_complete",
        "_drained",
        "_head_only",
        "_headers",
        "_kept",
        "_limits",
        "_loop",
        "_parser",
        "_paused",
        "_pending",
        "_persistent",
        "_poll",
        "_sent_at",
        "_ssl",
        "_started_at",
        "_time",
        "_transport",
        "_upload",
        "closed",
        "exchange",
        "idle_seconds_max",
        "owner",
        "seen_at",
    )

    _transport: CoalescingTransport

    def __init__(
        self, loop: asyncio.AbstractEventLoop, owner: ConnectionOwner, limits: HeadLimits
    ) -> None:
        self.owner = owner
        self.exchange: UpstreamExchange | None = None
        self.closed = False
        self.idle_seconds_max = math.inf
        self.seen_at = self._started_at = self._sent_at = loop.time()
        self._loop = loop
        self._time = loop.time
        self._limits = limits
        self._parser = HttpResponseParser(self)
        self._headers: Headers = []
        self._pending = 0  # bytes since the last piece of body: a head, trailers, chunk extensions
        self._complete = False
        self._persistent = False
        self._head_only = False
        self._kept = False
        self._paused = False
        self._blocked = False
        self._buffered = 0
        self._upload: asyncio.Task[None] | None = None
        self._drained: asyncio.Future[None] | None = None

    def start(self, request: Request, head: bytes, started_at: float) -> UpstreamExchange:
        """Send a request whose total deadline runs since `started_at` (loop time)."""
        exchange = UpstreamExchange(self, request.timeouts, self._loop.create_future())
        self.exchange = exchange
        self._started_at = started_at
        self._sent_at = self._time()
        self._pending = 0
        self._complete = False
        self._head_only = request.method == b"HEAD"
        self._headers = []
        body = request.body
        if isinstance(body, bytes):
            if len(body) <= JOINED_BYTES_MAX:
                self._transport.write(head + body)
            else:
                self._transport.writelines((head, body))
        else:
            # In this order: what there is of the body already leaves in one piece with the head.
            self._upload = self._loop.create_task(
                self._send_body(exchange, body, request.content_length)
            )
            self._transport.write(head)
        return exchange

    def is_quiet(self) -> bool:
        """Return whether the peer has sent neither data nor its end that the loop has not read yet.

        Checked just before a kept connection is reused: a connection that has ended must not get a
        request.
        """
        return not self._poll(0)

    def check(self, now: float) -> bool:
        """Fail the exchange if it is overdue; return whether one is in progress."""
        exchange = self.exchange
        if exchange is None:
            return False
        if self._blocked or (self._upload is not None and not self._upload.done()):
            self._note_progress(now)
        error = self._find_overdue(exchange, now)
        if error is not None:
            self.fail(error)
        return error is None

    def fail(self, error: Exception) -> None:
        exchange = self.exchange
        self.drop()
        if exchange is not None:
            exchange.fail(error)

    def drop(self) -> None:
        """Close the socket without telling the exchange. Idempotent."""
        self.exchange = None
        if not self.closed:
            self.closed = True
            self._transport.abort()
        upload_task, self._upload = self._upload, None
        if upload_task is not None:
            upload_task.cancel()

    def pause(self) -> None:
        if not self._paused and not self.closed:
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._paused and not self.closed:
            self._paused = False
            self.seen_at = self._time()
            self._transport.resume_reading()

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = CoalescingTransport(cast(asyncio.Transport, transport), self._loop)
        self._ssl = transport.get_extra_info("ssl_object")
        poller = select.poll()
        poller.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        self._poll = poller.poll

    def data_received(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None:  # nobody asked
            self.drop()
            return
        self.seen_at = self._time()
        self._pending += len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            if self._complete:  # bytes after the end of the response
                self._persistent = False
            elif isinstance(error, HttpParserCallbackError):  # a fault of ours, or of the sink
                raise
            else:
                self.fail(MalformedResponseError(f"The peer does not speak HTTP: {error}"))
                return
        if self.exchange is not exchange:  # failed or aborted on the way
            return
        if self._complete:
            self._finish(exchange)
        elif self._pending > self._limits.bytes_max:
            self.fail(ResponseHeadTooLargeError(f"A head exceeds {self._limits.bytes_max} bytes."))

    def eof_received(self) -> bool:
        self._lose(None)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._lose(exc)
        self._transport.lose()
        self.resume_writing()
        del self._parser  # it holds this object's methods
        self.owner.forget(self)

    def pause_writing(self) -> None:
        self._blocked = True

    def resume_writing(self) -> None:
        self._blocked = False
        self._sent_at = self._time()
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    # What the parser calls.

    def on_message_begin(self) -> None:
        if self._complete:
            raise HttpParserError("Surplus response.")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Store a field of a head; trailers are read and dropped."""
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Open the exchange, unless the head is an interim one."""
        status = self._parser.get_status_code()
        headers, self._headers = self._headers, []
        exchange = self.exchange
        if exchange is None or (100 <= status < 200 and status != 101):
            return
        if not 200 <= status <= 599:
            self.fail(MalformedResponseError(f"The peer answered with the status {status}."))
        elif len(headers) > self._limits.count_max or (
            self._pending > self._limits.bytes_max
            and sum(len(name) + len(value) + 4 for name, value in headers) > self._limits.bytes_max
        ):
            self.fail(ResponseHeadTooLargeError("The response's head is too large."))
        else:
            exchange.open(status, headers)
            if status >= 300 and self._upload is not None:
                self._upload.cancel()  # refused; still set, it keeps the connection from reuse
            if self._head_only:
                self._finish(exchange)

    def on_body(self, body: bytes) -> None:
        self._pending = 0
        exchange = self.exchange
        if exchange is not None:
            error = exchange.feed(body)
            if error is not None:
                self.fail(error)

    def on_message_complete(self) -> None:
        """Note the end of the response, unless it is an interim one."""
        if self.exchange is not None and self.exchange.status:
            self._complete = True
            self._persistent = self._parser.should_keep_alive()

    # Ends.

    def _finish(self, exchange: UpstreamExchange) -> None:
        """Release the connection before the exchange learns of its end and starts another."""
        self.exchange = None
        if self._persistent and self._complete and self._upload is None and not self._blocked:
            if not self._kept:
                self._kept = True
                self._note_keep_alive(exchange.headers)
            self.resume()
            self.owner.release(self)
        else:
            self.drop()
        exchange.end()

    def _note_keep_alive(self, headers: Headers) -> None:
        """Read from the peer's first response how long it keeps the connection."""
        announced = parse_keep_alive(headers)
        if announced is not None:
            self.idle_seconds_max = max(announced / 2, announced - IDLE_MARGIN_SECONDS)

    def _lose(self, error: Exception | None) -> None:
        exchange = self.exchange
        if exchange is None:
            self.drop()
        elif (
            error is None
            and exchange.status
            and ends_with_connection(exchange.headers)
            and not is_cut(self._ssl)
        ):
            self._persistent = False
            self._finish(exchange)
        else:
            failure = DisconnectedError(
                f"The peer closed: {error or 'EOF'}.", reused=self._was_stale()
            )
            # A whole request waits until the end of its turn: the peer was gone before it left.
            failure.sent = self._upload is not None or not self._transport.waiting_bytes
            self.fail(failure)

    def _was_stale(self) -> bool:
        """Return whether the peer may have closed this connection before it saw the request.

        True for a kept connection that ended at once, without any response. The peer may also have
        read the request; nobody can tell.
        """
        assert self.exchange is not None
        answered = self.exchange.status or self._pending
        return self._kept and not answered and self._time() - self._sent_at < STALE_SECONDS

    # Deadlines.

    def _find_overdue(self, exchange: UpstreamExchange, now: float) -> EgressError | None:
        timeouts = exchange.timeouts
        if now - self._started_at >= timeouts.total_seconds:
            return TotalTimeoutError(f"The exchange took {timeouts.total_seconds} s.")
        if exchange.status:
            still_seconds = now - max(self.seen_at, self._sent_at)
            if still_seconds >= timeouts.idle_seconds and not self._paused:
                return IdleTimeoutError(f"The body stalled for {timeouts.idle_seconds} s.")
        elif now - self._sent_at >= timeouts.first_byte_seconds:
            return FirstByteTimeoutError(f"No answer within {timeouts.first_byte_seconds} s.")
        return None

    def _note_progress(self, now: float) -> None:
        """Extend the deadlines while the peer takes bytes, or while the body's source is slow."""
        buffered = self._transport.get_write_buffer_size()
        if not self._blocked or buffered != self._buffered:
            self._sent_at = now
        self._buffered = buffered

    # Uploads.

    async def _send_body(
        self, exchange: UpstreamExchange, body: AsyncIterator[bytes], content_length: int | None
    ) -> None:
        try:
            await upload(body, content_length, self._write)
        except Exception as error:  # noqa: BLE001 - a body may raise anything: the caller hears it
            if self.exchange is exchange:
                self._upload = None
                self.fail(error)
        else:
            self._upload = None
            self._sent_at = self._time()

    async def _write(self, data: bytes) -> None:
        self._transport.write(data)
        while self._blocked:
            self._drained = self._loop.create_future()
            await self._drained
