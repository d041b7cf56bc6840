"""The edge: uvicorn's connection, with limits on everything that a client can make it wait for.

Requests below `/v1` go to the `RequestHandler` as an `InboundExchange`, without the ASGI cycle;
every other request goes through uvicorn to the ASGI application.
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
)
from headgate.gateway.limits import (
    RequestTimeoutError,
    TooManyConnectionsError,
)
from headgate.gateway.request_parser import (
    CHUNK_FRAMING_BYTES,
    HOT_PREFIX,
    LINGER_SECONDS,
    RequestParserProtocol,
)
from headgate.keys.model import request_keys
from headgate.kit.errors import HeadgateError, drop_trace
from headgate.kit.http.coalescing import CoalescingTransport
from headgate.kit.http.message import Headers
from headgate.kit.http.probes import is_peer_gone, probe_peer

CONTROL_BODY_BYTES_MAX = 1024 * 1024
"""The body of a request that is no model call."""
PIPELINED_MAX = 32
"""Requests that may wait on one connection for their turn; it closes after them."""
UNSENT_BYTES = 16 * 1024
"""Of an answer, what waits here for a slow client before the provider is made to wait."""
LINGERING_MAX = 64
"""How many connections too many wait for their client to read why they close."""
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
CLIENT_PROBE_SECONDS = (0.1, 0.4, 1.0)
"""When a client that shut its side is asked whether it is still there."""
RESET_CHECK_SECONDS = 1.0
"""How often a connection that is not read from is looked at for a reset."""


class EdgeProtocol(RequestParserProtocol):
    """Serve one connection. `cycle` is the request that is arriving: an `InboundExchange`, or a
    cycle of uvicorn.

    `write` sends at the end of the loop's turn, in one piece with all that the turn writes.
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
        """Exchanges that are over, and whose answers the client may not have taken yet."""
        self._sender: CoalescingTransport
        self.write: Callable[[bytes], None]

    # The connection.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock of the first head."""
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
        """Tell everyone who works for this connection."""
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
            if answering.task is None:  # nobody will ever complete it
                self._answering = None
                release_memory(answering)
        if isinstance(arriving, InboundExchange):
            self.cycle = None
        self.pipeline.clear()
        super().connection_lost(exc)
        self._release_sent()

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """The client sends no more: it went away, or shut its side and waits for the answer.

        The network tells these two apart only when something is sent: an interim answer, which
        every client of HTTP/1.1 reads past, and which the system of one that left refuses. So the
        second one shows it, and that is acted upon as for anybody who leaves.
        """
        # Where nothing else is said, the loop closes the socket when this returns.
        self._sender.flush()
        cycle = self.cycle
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
        """Answer a client that cannot be asked, or any more, whether it is still there.

        Where it cannot, an interim answer would be none to it. The system's own probes are no bytes
        of ours; that of a client that left answers them for a minute, and then refuses the
        connection.
        """
        cycle.keep_alive = False
        self._is_half_closed = True
        probe_peer(self.transport)
        self._watch_for_reset()
        return True

    def _watch_for_reset(self) -> None:
        """Look for a reset for as long as the connection is not read from: by reading alone the
        loop would hear of it, and until the answer is written nobody would."""
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
        """The client took too long: silently for an idle connection, with 408 inside a request.

        One that takes nothing of its answer is cut; as long as it takes something it may be slow.
        """
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
        """The client reads slowly."""
        super().pause_writing()
        self._watch_write()
        if self._answering is not None:
            self._answering.pause_writing()

    def resume_writing(self) -> None:
        """The client has caught up."""
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
        """The model call that is being answered, if any."""
        return self._answering

    @property
    def is_slow(self) -> bool:
        """See `exchange.ClientConnection`."""
        return self.flow.write_paused

    # What the parser says.

    def on_headers_complete(self) -> None:
        """The head is whole: hand it to the handler, or to the ASGI application."""
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
        if self.url.startswith(HOT_PREFIX) and (
            method != b"OPTIONS" or self.cors is None or not is_preflight(method, self.headers)
        ):
            self._open_exchange(method, version)
        else:
            self._open_cycle()

    def on_body(self, body: bytes) -> None:
        """A piece of the request's body."""
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
            self._hold_more(exchange)

    def _hold_more(self, exchange: InboundExchange) -> None:
        """Count as much again as arrived of a body that announced no length."""
        size = min(2 * exchange.waiting_bytes, exchange.body_bytes_max)
        try:
            exchange.reserve_memory(size - exchange.held_bytes)
        except HeadgateError as error:
            exchange.drop_body()
            self._refuse(drop_trace(error))

    def on_message_complete(self) -> None:
        """The request is whole; what follows in the bytes at hand is another one."""
        if self._has_upgrade_offer:
            return
        self._in_body = self._in_chunks = self._starts_raw = False
        exchange = self.cycle
        if self._is_closing() or exchange is None:
            return
        if not self.flow.write_paused:
            self.deadline = 0.0
        if len(self.pipeline) >= PIPELINED_MAX:
            # No more is heard of a client so far ahead; its last request closes the connection.
            exchange.keep_alive = False
            self._ignore_input = True
        if not isinstance(exchange, InboundExchange):
            super().on_message_complete()
            return
        exchange.end()
        if exchange is self._answering and exchange.task is None:
            self._handle(exchange)

    # Turns: one answer at a time, in the order of the requests.

    def on_response_complete(self) -> None:
        """An answer is written: the next request that waits, or the wait for one."""
        self.server_state.total_requests += 1
        if self._is_lingering or self.transport.is_closing():
            return
        if self.flow.write_paused:
            # Answers that nobody takes are not piled up.
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
        """The turn of a request has come, whichever kind it is."""
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
            # In many calls too many, a task for each refusal would be the half of its cost.
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
        """Give uvicorn what its own `on_message_begin` and `on_header` would have prepared."""
        url, headers = self.url, self.headers
        try:
            if sum(name == b"authorization" for name, _ in headers) > 1:
                raise request_keys.refuse_repeated()
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
            self._watch_for_reset()  # it is not read from until its turn comes
        super().on_headers_complete()

    def end_cycle(self, cycle: RequestResponseCycle) -> None:
        """See `asgi_cycle.CycleConnection`."""
        if cycle.more_body:
            self._linger()
        else:
            self._close()

    # `exchange.ClientConnection`.

    def complete(self, exchange: InboundExchange, *, keep: bool) -> None:
        """See `ClientConnection`."""
        self._answering = None
        if exchange.task is not None:
            self.tasks.discard(exchange.task)
        if exchange.held_bytes > UNSENT_BYTES:
            self._unsent.append(exchange)
            self.loop.call_soon(self._release_sent)  # the answer leaves at the end of the turn
        elif exchange.held_bytes:
            release_memory(exchange)
        if keep:
            self.on_response_complete()
        elif exchange.body_complete and not self._ignore_input:
            self._close()
        else:
            self._linger()

    def _release_sent(self) -> None:
        """Give the memory of answers back that the client has taken, or never will."""
        if not self.flow.write_paused or self.transport.is_closing():
            unsent, self._unsent = self._unsent, []
            for exchange in unsent:
                release_memory(exchange)

    def pause_body(self) -> None:
        """See `ClientConnection`."""
        self.deadline = 0.0
        self.flow.pause_reading()
        self._watch_for_reset()

    def resume_body(self) -> None:
        """See `ClientConnection`."""
        if self.flow.read_paused:
            self.flow.resume_reading()
            if self._answering is not None:
                self._await_body(self._answering)

    def find_client_address(self, headers: Headers) -> str:
        """See `ClientConnection`."""
        peer = self.client[0] if self.client else ""
        trusted = self._edge.trusted_proxies
        if not trusted:
            return forwarding.normalize_address(peer)
        return forwarding.find_client_address(peer, headers, trusted)

    @property
    def cors(self) -> CorsPolicy | None:
        """See `ClientConnection`."""
        return self._edge.cors

    @property
    def date_line(self) -> bytes:
        """See `ClientConnection`."""
        return self._edge.date_line

    def _refuse(self, error: HeadgateError) -> None:
        """Answer with an error and close. Nothing that still arrives is heard; what was asked for
        before is answered first."""
        if self._is_closing():
            return
        if not self._is_busy():
            if self._in_body:
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
        self._ignore_input = True
        arriving.keep_alive = False
        if not isinstance(arriving, InboundExchange):
            if arriving.more_body:
                self._abort_cycle(arriving, error)
        elif not arriving.body_complete:
            # Its body will never be whole: whoever reads it, now or in its turn, is told why.
            if arriving.response_started:
                self._close()
            else:
                arriving.abort_body(error)
                self.deadline = self._time() + LINGER_SECONDS if answering is arriving else 0.0

    def _abort_cycle(self, cycle: RequestResponseCycle, error: HeadgateError) -> None:
        """The body will never be whole: tell the client why, if it is its turn, and the reader."""
        if self.pipeline or self._answering is not None or cycle.response_started:
            self._close()
            return
        cycle.disconnected = True
        cycle.message_event.set()
        exchange = self._exchange_type(
            self, b"", self.url, self.headers, http_version="1.1", keep_alive=False
        )
        self._edge.handler.refuse(exchange, error)


def release_memory(exchange: InboundExchange) -> None:
    """Give back what an exchange held of the memory for bodies. Idempotent."""
    if exchange.held_bytes and exchange.budget is not None:
        exchange.budget.give(exchange.budget_key_id, exchange.held_bytes)
        exchange.held_bytes = 0
