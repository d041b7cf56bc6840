"""The edge: uvicorn's connection, with limits on everything that a client can make it wait for.

Requests below `/v1` are handed to the face as an `Exchange`, without the ASGI cycle; every other
one goes the usual way to the ASGI application (performance.md 5 and 7).
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from headgate.gateway.edge import Edge
from headgate.gateway.exchange import BUFFERED_BODY_BYTES, BodyTooLarge, Exchange, describe_limit
from headgate.kit.errors import HeadgateError, Kind

HOT_PREFIX = b"/v1/"
LINGER_SECONDS = 2.0
DISCARDED_BYTES_MAX = 64 * 1024
"""How long, and how much, a refused sender may go on sending before it is cut."""
REFUSED_BODY_BYTES_MAX = 64 * 1024
"""What is read of the body of a request that its head has refused already; one that announces more,
or that waits to be asked for it, is answered at once."""
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class TargetTooLong(HeadgateError):
    kind = Kind.TARGET_TOO_LONG
    code = "target_too_long"


class HeadTooLarge(HeadgateError):
    kind = Kind.HEADERS_TOO_LARGE
    code = "headers_too_large"


class RequestMalformed(HeadgateError):
    kind = Kind.INVALID
    code = "malformed_request"


class RequestTimeout(HeadgateError):
    kind = Kind.TIMEOUT
    code = "request_timeout"


class UpgradeUnsupported(HeadgateError):
    kind = Kind.UNSUPPORTED
    code = "websocket_unsupported"


class TooManyConnections(HeadgateError):
    kind = Kind.UNAVAILABLE
    code = "too_many_connections"


class EdgeProtocol(HttpToolsProtocol):
    """One connection. `cycle` is the request that is arriving, an `Exchange` or uvicorn's own.

    `deadline` is what the sweeper looks at.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        edge: Edge,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._edge = edge
        self._limits = edge.limits
        self._time = self.loop.time
        self._head_bytes = 0
        self._unread_head_bytes = 0
        self._in_head = False
        self._answering: Exchange | None = None
        self._discarding = False
        self._discarded_bytes = 0
        self.parser: Any
        self.cycle: Any = None
        self.deadline = 0.0

    # The connection.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock of the first head."""
        super().connection_made(transport)
        self.deadline = self._time() + self._limits.header_seconds
        if len(self.connections) > self._limits.connections_max:
            self._refuse(TooManyConnections("Too many connections.", retry_after_seconds=1))

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell everyone who works for this connection."""
        self.deadline = 0.0
        if self._answering is not None:
            self._answering.leave()
        if isinstance(self.cycle, Exchange):
            self.cycle = None
        self.pipeline.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser; a head that does not end is cut off."""
        if self._discarding:
            self._discarded_bytes += len(data)
            if self._discarded_bytes > DISCARDED_BYTES_MAX:
                self.transport.close()
            return
        # The parser tells of a header once it is whole: one without an end is counted here.
        head_bytes = self._unread_head_bytes + len(data) if self._in_head else 0
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            return
        except httptools.HttpParserError:
            self._refuse(RequestMalformed("The request is not valid HTTP/1.1."))
            return
        if self._in_head:
            self._unread_head_bytes = head_bytes
            if head_bytes > self._limits.header_bytes_max + self._limits.target_bytes_max:
                self._refuse(HeadTooLarge("The request head is too large."))

    def expire(self) -> None:
        """The client took too long: silently for an idle connection, with 408 inside a request."""
        self.deadline = 0.0
        arriving = self._in_head or (self.cycle is not None and not self.cycle.response_complete)
        if arriving and not self._discarding:
            self._refuse(RequestTimeout("The request did not arrive in time."))
        elif not self.transport.is_closing():
            self.transport.close()

    def pause_writing(self) -> None:
        """The client reads slowly."""
        super().pause_writing()
        if self._answering is not None:
            self._answering.pause_writing()

    def resume_writing(self) -> None:
        """The client has caught up."""
        super().resume_writing()
        if self._answering is not None:
            self._answering.resume_writing()

    # What the parser says.

    def on_message_begin(self) -> None:
        """A head begins; the connection was idle, or the client is ahead of us."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._head_bytes = 0
        self._unread_head_bytes = 0
        self._in_head = True
        self.deadline = self._time() + self._limits.header_seconds

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header field."""
        self._head_bytes += len(name) + len(value) + 4
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is whole: hand it to the face, or to the ASGI application."""
        self._in_head = False
        self.deadline = self._time() + self._limits.body_seconds
        error = self._check_head()
        if error is not None:
            self._refuse(error)
        elif self.url.startswith(HOT_PREFIX):
            self._open_exchange()
        else:
            self._open_cycle()

    def on_body(self, body: bytes) -> None:
        """A piece of the request's body."""
        exchange = self.cycle
        if not isinstance(exchange, Exchange):
            if exchange is not None:
                super().on_body(body)
            return
        if exchange.response_complete:
            return
        exchange.feed(body)
        if exchange.streams_body:
            self.deadline = self._time() + self._limits.body_seconds
            if exchange.waiting_bytes > BUFFERED_BODY_BYTES:
                self.slow_down()
        elif exchange.waiting_bytes > exchange.body_bytes_max:
            self._refuse(exchange.refusal or BodyTooLarge(describe_limit(exchange.body_bytes_max)))

    def on_message_complete(self) -> None:
        """The request is whole."""
        self.deadline = 0.0
        exchange = self.cycle
        if not isinstance(exchange, Exchange):
            if exchange is not None:
                super().on_message_complete()
            return
        exchange.end()
        if exchange is self._answering and exchange.task is None:
            self._run(exchange)

    # Turns: one answer at a time, in the order of the requests.

    def on_response_complete(self) -> None:
        """An answer is written: the next request that waits, or the wait for one."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.flow.read_paused:
            self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        elif not self._in_head:
            self.deadline = self._time() + self._limits.keepalive_seconds

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """The turn of a request has come, whichever kind it is."""
        if not isinstance(cycle, Exchange):
            super()._start_asgi_task(cycle, app)
            return
        self._answering = cycle
        if cycle.streams_body or cycle.body_complete:
            self._run(cycle)
        elif cycle.expects_continue:
            self.write(CONTINUE)

    def _run(self, exchange: Exchange) -> None:
        if exchange.expects_continue and not exchange.body_complete and exchange.refusal is None:
            self.write(CONTINUE)
        exchange.task = self.loop.create_task(self._edge.face.run(exchange))
        self.tasks.add(exchange.task)

    def _check_head(self) -> HeadgateError | None:
        limits = self._limits
        if len(self.url) > limits.target_bytes_max:
            return TargetTooLong(
                f"The request target is longer than {limits.target_bytes_max} bytes."
            )
        if (
            self._head_bytes > limits.header_bytes_max
            or len(self.headers) > limits.header_count_max
        ):
            return HeadTooLarge(
                f"At most {limits.header_count_max} headers of {limits.header_bytes_max} bytes "
                "in all are accepted."
            )
        if self.parser.should_upgrade():
            return UpgradeUnsupported(
                "WebSocket and other upgrades are not supported here; use the HTTP endpoints, and "
                "have a client that offers to upgrade to HTTP/2 (h2c) speak HTTP/1.1.",
                should_retry=False,
            )
        return None

    def _open_exchange(self) -> None:
        parser = self.parser
        exchange = Exchange(
            self,
            parser.get_method(),
            self.url,
            self.headers,
            http_version=parser.get_http_version(),
            keep_alive=parser.should_keep_alive(),
        )
        try:
            self._edge.face.open(exchange)
        except HeadgateError as error:
            exchange.refusal = error
            exchange.body_bytes_max = REFUSED_BODY_BYTES_MAX
            length = exchange.content_length or 0
            exchange.streams_body = exchange.expects_continue or length > REFUSED_BODY_BYTES_MAX
        before, self.cycle = self.cycle, exchange
        if before is None or before.response_complete:
            self._start_asgi_task(exchange, None)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft(cast("Any", (exchange, None)))

    def _open_cycle(self) -> None:
        """Give uvicorn what its own `on_message_begin` and `on_header` would have prepared."""
        url, headers = self.url, self.headers
        super().on_message_begin()
        self.url = url
        self.headers.extend(headers)
        self.expect_100_continue = (b"expect", b"100-continue") in headers
        super().on_headers_complete()

    # `exchange.Connection`.

    def write(self, data: bytes) -> None:
        """See `Connection`."""
        self.transport.write(data)

    def complete(self, exchange: Exchange, *, keep: bool) -> None:
        """See `Connection`."""
        self._answering = None
        if exchange.task is not None:
            self.tasks.discard(exchange.task)
        if keep:
            self.on_response_complete()
        elif exchange.body_complete:
            self.transport.close()
        else:
            self._discard()

    def slow_down(self) -> None:
        """See `Connection`."""
        self.flow.pause_reading()

    def speed_up(self) -> None:
        """See `Connection`."""
        self.flow.resume_reading()

    @property
    def date_line(self) -> bytes:
        """See `Connection`."""
        return self._edge.date_line

    def _refuse(self, error: HeadgateError) -> None:
        """Answer with an error and close; only close when another answer is under way."""
        if self.transport.is_closing() or self._discarding:
            return
        answering = self._answering
        if self._is_answering():
            self.transport.close()
            return
        refused = answering or Exchange(self, b"", b"", [], http_version="1.1", keep_alive=False)
        refused.keep_alive = False
        self._edge.face.refuse(refused, error)

    def _is_answering(self) -> bool:
        """Whether bytes of an answer may be on their way, into which nothing can be written."""
        if self._answering is not None:
            return self._answering.task is not None
        cycle = self.cycle
        return cycle is not None and not isinstance(cycle, Exchange) and not cycle.response_complete

    def _discard(self) -> None:
        """Read on for a moment, so that the client gets to see the answer before the reset."""
        self._discarding = True
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        self.deadline = self._time() + LINGER_SECONDS
