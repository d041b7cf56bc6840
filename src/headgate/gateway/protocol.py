"""Run the edge's protocol: uvicorn's connection, with a limit on all that a client can delay.

Requests below `/v1` go to the `RequestHandler` as an `InboundExchange`, without the ASGI cycle.
Every other request, and those for the platform's own operations below `/v1` (decision 0030), go
through uvicorn to the ASGI application.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from headgate.gateway import forwarding
from headgate.gateway.asgi_cycle import (
    REFUSED_BODY_BYTES_MAX,
    CycleTransport,
    EarlyResponseMiddleware,
)
from headgate.gateway.cors import CorsPolicy, is_preflight
from headgate.gateway.edge import Edge
from headgate.gateway.exchange import (
    BUFFERED_BODY_BYTES,
    InboundExchange,
    RequestTooLargeError,
    describe_limit,
    release_memory,
)
from headgate.gateway.limits import (
    RequestTimeoutError,
    TooManyConnectionsError,
)
from headgate.gateway.request_parser import (
    CHUNK_FRAMING_BYTES,
    LINGER_SECONDS,
    PLATFORM_STARTS,
    V1_PREFIX,
    RequestParserProtocol,
    is_platform_path,
)
from headgate.keys.model import request_keys
from headgate.kit.errors import HeadgateError, drop_trace
from headgate.kit.http.coalescing import CoalescingTransport
from headgate.kit.http.keepalive import enable_keepalive, is_peer_gone
from headgate.kit.http.message import Headers

CONTROL_BODY_BYTES_MAX = 8 * 1024 * 1024
"""The largest body of a request to the ASGI application: a file of 5 MB in base64, in JSON. Nearly
all of its operations read far less, and only 64 KiB are held that nobody has read."""
PIPELINED_MAX = 32
"""How many pipelined requests may wait on one connection; it closes after them."""
UNSENT_BYTES = 16 * 1024
"""How much of a response waits for a slow client before reading from the provider is paused."""
LINGERING_MAX = 64
"""How many connections above the limit may linger for their client to read the error."""
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
CLIENT_PROBE_SECONDS = (0.1, 0.4, 1.0)
"""When to probe, by an interim response, a client that half-closed its connection."""
RESET_CHECK_SECONDS = 1.0
"""How often a connection that is not read from is checked for a reset."""


class EdgeProtocol(RequestParserProtocol):
    """Serve one connection.

    `cycle` is the request that is arriving: an `InboundExchange`, or a cycle of uvicorn. `write`
    sends at the end of the loop's turn, in one piece with all that the turn writes.
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
        super().__init__(config, server_state, app_state, _loop, edge=edge)
        self._exchange_type = edge.exchange_type
        self._total_bytes = 0
        self._next_request_waits = False
        self._is_half_closed = False
        self._is_reset_watched = False
        self._unsent: list[InboundExchange] = []
        """Complete exchanges whose responses the client may not have taken yet."""
        self._sender: CoalescingTransport
        self.write: Callable[[bytes], None]

    # Callbacks of the event loop.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the deadline of the first head, and refuse a connection too many."""
        self._sender = sender = CoalescingTransport(transport, self.loop)
        self.write = sender.write
        super().connection_made(cast("asyncio.Transport", sender))
        transport.set_write_buffer_limits(high=UNSENT_BYTES)
        self.deadline = self._time() + self._limits.first_request_seconds
        too_many = len(self.connections) - self._limits.connections_max
        if too_many > 0:
            self._refuse(TooManyConnectionsError("Too many connections.", retry_after_seconds=1))
            if too_many > LINGERING_MAX:
                self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._sender.lose()
        self.deadline = 0.0
        if self._is_large:
            self._untrack_large_head()
        answering, arriving = self._answering, self.cycle
        for exchange in (arriving, *(each for each, _ in self.pipeline)):
            if isinstance(exchange, InboundExchange) and exchange is not answering:
                release_memory(exchange)
        if answering is not None:
            answering.disconnect()
            if answering.task is None:  # its handler never started, so nothing else completes it
                self._answering = None
                release_memory(answering)
        if isinstance(arriving, InboundExchange):
            self.cycle = None  # uvicorn would treat it as a cycle of its own
        self.pipeline.clear()
        super().connection_lost(exc)
        self._release_sent()

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Handle a client that sends no more: it went away, or waits for the response half-closed.

        Only sending tells the two apart. So an interim response is sent: every HTTP/1.1 client
        skips it, and the system of a client that went away answers it with a reset.
        """
        # Unless this returns True, the loop closes the socket, so pending output is sent now.
        self._sender.flush()
        cycle = self.cycle
        # TLS has no half-closed connections: asyncio closes both directions.
        if self.scheme == "https" or not self._is_busy():
            return None
        if not isinstance(cycle, InboundExchange):
            return self._answer_half_closed(cycle) if not cycle.more_body else None
        if not cycle.body_complete or cycle.response_started:
            return None
        if cycle.http_version != "1.0":
            self._probe_client(cycle)
            for seconds in CLIENT_PROBE_SECONDS:
                self.loop.call_later(seconds, self._probe_client, cycle)
        return self._answer_half_closed(cycle)

    def _answer_half_closed(self, cycle: Any) -> bool:
        """Keep a half-closed connection, and find a client that went away by TCP probes.

        Used where no interim response can be sent. The system of a client that left answers the
        probes for about a minute, and then resets the connection.
        """
        cycle.keep_alive = False
        self._is_half_closed = True
        enable_keepalive(self.transport)
        self._watch_for_reset()
        return True

    def _watch_for_reset(self) -> None:
        """Check for a reset regularly while the connection is not read from. The event loop notices
        a reset only by reading, and nothing is written before the response."""
        if not self._is_reset_watched:
            self._is_reset_watched = True
            self.loop.call_later(RESET_CHECK_SECONDS, self._check_for_reset)

    def _check_for_reset(self) -> None:
        self._is_reset_watched = False
        if self.transport.is_closing() or not (self._is_half_closed or self.flow.read_paused):
            return
        if is_peer_gone(self.transport):
            self.transport.abort()
        else:
            self._watch_for_reset()

    def _probe_client(self, exchange: InboundExchange) -> None:
        if self._answering is exchange and not exchange.response_started:
            self.write(CONTINUE)

    def expire(self) -> None:
        """Close an idle connection silently; answer 408 inside a request. A client that takes
        nothing of its response is cut; one that takes a little may be slow."""
        if self.flow.write_paused or self.transport.is_closing():
            self._expire_write()
        elif self._ignore_input or self._is_lingering:
            self._close()
        elif self._in_body and self._extend_body():
            return
        else:
            self.deadline = 0.0
            if self._in_head or self._is_busy():
                self._refuse(RequestTimeoutError("The request did not arrive in time."))
            else:
                self._close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_write()
        if self._answering is not None:
            self._answering.pause_writing()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unsent:
            self._release_sent()
        if self._is_lingering or self.transport.is_closing():
            return
        self.deadline = 0.0
        if self._answering is not None:
            self._answering.resume_writing()
            self._await_body(self._answering)
        elif self._next_request_waits:
            self._next_request_waits = False
            self._start_next_request()
        elif not self._is_busy():
            self.deadline = self._time() + self._limits.keepalive_seconds

    @property
    def answering(self) -> InboundExchange | None:
        return self._answering

    @property
    def is_slow(self) -> bool:
        return self.flow.write_paused

    # Callbacks of the parser.

    def on_headers_complete(self) -> None:
        """Hand a whole head to the handler, or to the ASGI application."""
        self._in_head = False
        if self._is_closing():
            return
        method, version = self.parser.get_method(), self.parser.get_http_version()
        error = self._check_head(method, version)
        if error is not None:
            self._refuse(error)
            return
        if self._has_upgrade_offer:
            return
        self._in_body = True
        if (
            self.url.startswith(V1_PREFIX)
            and (self.url[4:9] not in PLATFORM_STARTS or not is_platform_path(self.url))
            and (
                method != b"OPTIONS" or self.cors is None or not is_preflight(method, self.headers)
            )
        ):
            self._open_exchange(method, version)
        else:
            self._open_cycle()

    def on_body(self, body: bytes) -> None:
        exchange = self.cycle
        if self._is_closing() or exchange is None:
            return
        self._body_bytes += len(body)
        if self._in_chunks:
            self._framing_bytes -= len(body) + CHUNK_FRAMING_BYTES
        if not isinstance(exchange, InboundExchange):
            self._total_bytes += len(body)
            if self._total_bytes > CONTROL_BODY_BYTES_MAX:
                self._refuse(RequestTooLargeError(describe_limit(CONTROL_BODY_BYTES_MAX)))
            else:
                super().on_body(body)
            return
        exchange.feed(body)
        if exchange.streams_body:
            if exchange.waiting_bytes > BUFFERED_BODY_BYTES:
                self.pause_body()
        elif exchange.waiting_bytes > exchange.body_bytes_max:
            self._refuse(
                exchange.refusal or RequestTooLargeError(describe_limit(exchange.body_bytes_max))
            )
        elif exchange.waiting_bytes > exchange.held_bytes and exchange.budget is not None:
            self._reserve_more(exchange)

    def _reserve_more(self, exchange: InboundExchange) -> None:
        """Reserve twice the bytes that arrived of a body that announced no length."""
        size = min(2 * exchange.waiting_bytes, exchange.body_bytes_max)
        try:
            exchange.reserve_memory(size - exchange.held_bytes)
        except HeadgateError as error:
            exchange.drop_body()
            self._refuse(drop_trace(error))

    def on_message_complete(self) -> None:
        if self._has_upgrade_offer:
            return
        self._in_body = self._in_chunks = self._starts_raw = False
        exchange = self.cycle
        if self._is_closing() or exchange is None:
            return
        if not self.flow.write_paused:
            self.deadline = 0.0
        if len(self.pipeline) >= PIPELINED_MAX:
            # A client this far ahead is not read further: its last request closes the connection.
            exchange.keep_alive = False
            self._ignore_input = True
        if not isinstance(exchange, InboundExchange):
            super().on_message_complete()
            return
        exchange.end()
        if exchange is self._answering and exchange.task is None:
            self._handle(exchange)

    # Pipelining: one response at a time, in the order of the requests.

    def on_response_complete(self) -> None:
        """Start the next request that waits, or wait for one."""
        self.server_state.total_requests += 1
        if self._is_lingering or self.transport.is_closing():
            return
        if self.flow.write_paused:
            # Responses that the client does not read must not pile up in memory.
            self._next_request_waits = True
            self.flow.pause_reading()
        else:
            self._start_next_request()

    def _start_next_request(self) -> None:
        limits = self._limits
        if self.flow.read_paused:
            self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        elif not self._is_busy() and not self._in_body:
            wait = limits.header_seconds if self._in_head else limits.keepalive_seconds
            self.deadline = self._time() + wait

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """Start a request of either kind: all requests before it are answered."""
        if not isinstance(cycle, InboundExchange):
            cycle.transport = CycleTransport(self, cycle)
            if cycle.more_body:
                self._start_body(self._limits.body_seconds)
            super()._start_asgi_task(cycle, EarlyResponseMiddleware(app, cycle))
            return
        self._answering = cycle
        self._await_body(cycle)
        waits = cycle.expects_continue and not cycle.body_complete
        if waits and cycle.refusal is None:
            self.write(CONTINUE)
        if cycle.streams_body or cycle.body_complete or (waits and cycle.refusal is not None):
            self._handle(cycle)

    def _handle(self, exchange: InboundExchange) -> None:
        if exchange.refusal is not None:
            # Under overload, a task for each refusal would be half of the refusal's cost.
            self._edge.handler.refuse(exchange, exchange.refusal)
            return
        exchange.task = self.loop.create_task(self._edge.handler.run(exchange))
        self.tasks.add(exchange.task)

    def _open_exchange(self, method: bytes, version: str) -> None:
        exchange = self._exchange_type(
            self,
            method,
            self.url,
            self.headers,
            http_version=version,
            keep_alive=self.parser.should_keep_alive(),
        )
        try:
            self._edge.handler.open(exchange)
        except HeadgateError as error:
            # A small body is received before the refusal, so that the connection can be used again.
            # A large one, or one that waits for 100 Continue, is refused at once.
            exchange.refusal = drop_trace(error)
            exchange.body_bytes_max = REFUSED_BODY_BYTES_MAX
            length = exchange.content_length or 0
            exchange.streams_body = exchange.expects_continue or length > REFUSED_BODY_BYTES_MAX
        before, self.cycle = self.cycle, exchange
        if not self._next_request_waits and (before is None or before.response_complete):
            self._start_asgi_task(exchange, None)
        else:
            self.pause_body()
            self.pipeline.appendleft(cast("Any", (exchange, None)))

    def _open_cycle(self) -> None:
        """Prepare what uvicorn's own `on_message_begin` and `on_header` would have prepared."""
        url, headers = self.url, self.headers
        try:
            if sum(name == b"authorization" for name, _ in headers) > 1:
                raise request_keys.make_duplicate_error()
            address = self.find_client_address(headers)
        except HeadgateError as error:
            self._in_body = False
            self._refuse(error)
            return
        HttpToolsProtocol.on_message_begin(self)
        self.scope["client"] = (address, self.client[1] if self.client else 0)
        self.url = url
        self.headers.extend(headers)
        self.expect_100_continue = (b"expect", b"100-continue") in headers
        self._total_bytes = 0
        if self._is_busy():
            self.deadline = 0.0
            self._watch_for_reset()  # it is not read from until the requests before it are answered
        super().on_headers_complete()

    def end_cycle(self, cycle: RequestResponseCycle) -> None:
        if cycle.more_body:
            self._linger()
        else:
            self._close()

    # Called by exchanges (`exchange.ClientConnection`).

    def complete(self, exchange: InboundExchange, *, keep: bool) -> None:
        self._answering = None
        if exchange.task is not None:
            self.tasks.discard(exchange.task)
        # The memory of a small exchange is released at once: it is not worth tracking.
        if exchange.held_bytes > UNSENT_BYTES:
            self._unsent.append(exchange)
            self.loop.call_soon(self._release_sent)  # the response is sent at the end of the turn
        elif exchange.held_bytes:
            release_memory(exchange)
        if keep:
            self.on_response_complete()
        elif exchange.body_complete and not self._ignore_input:
            self._close()
        else:
            self._linger()

    def _release_sent(self) -> None:
        """Release the memory of responses that the client has taken, or never will."""
        if not self.flow.write_paused or self.transport.is_closing():
            unsent, self._unsent = self._unsent, []
            for exchange in unsent:
                release_memory(exchange)

    def pause_body(self) -> None:
        self.deadline = 0.0
        self.flow.pause_reading()
        self._watch_for_reset()

    def resume_body(self) -> None:
        if self.flow.read_paused:
            self.flow.resume_reading()
            if self._answering is not None:
                self._await_body(self._answering)

    def find_client_address(self, headers: Headers) -> str:
        peer = self.client[0] if self.client else ""
        trusted = self._edge.trusted_proxies
        if not trusted:
            return forwarding.normalize_address(peer)
        return forwarding.find_client_address(peer, headers, trusted)

    @property
    def cors(self) -> CorsPolicy | None:
        return self._edge.cors

    @property
    def date_line(self) -> bytes:
        return self._edge.date_line

    def _refuse(self, error: HeadgateError) -> None:
        """Answer with an error and close; earlier requests are answered first."""
        if self._is_closing():
            return
        if not self._is_busy():
            if self._in_body:
                # The request was answered already; only the rest of its body was arriving.
                self._close()
                return
            exchange = self._exchange_type(
                self, b"", self.url, self.headers, http_version="1.1", keep_alive=False
            )
            self._edge.handler.refuse(exchange, error)
            return
        answering, arriving = self._answering, self.cycle
        if answering is not None and answering is arriving and answering.task is None:
            answering.keep_alive = False
            self._edge.handler.refuse(answering, error)
            return
        # Requests before this one are answered first, so the error has to wait for its turn.
        self._ignore_input = True
        arriving.keep_alive = False
        if not isinstance(arriving, InboundExchange):
            if arriving.more_body:
                self._abort_cycle(arriving, error)
        elif not arriving.body_complete:
            # Its body will never be complete: its reader, now or later, gets the error.
            if arriving.response_started:
                self._close()
            else:
                arriving.abort_body(error)
                self.deadline = self._time() + LINGER_SECONDS if answering is arriving else 0.0

    def _abort_cycle(self, cycle: RequestResponseCycle, error: HeadgateError) -> None:
        """Answer with an error where no response has begun, and wake the application."""
        if self.pipeline or self._answering is not None or cycle.response_started:
            self._close()
            return
        cycle.disconnected = True
        cycle.message_event.set()
        exchange = self._exchange_type(
            self, b"", self.url, self.headers, http_version="1.1", keep_alive=False
        )
        self._edge.handler.refuse(exchange, error)
