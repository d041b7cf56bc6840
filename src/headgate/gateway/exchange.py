"""Carry one request and its response on a connection of the edge, without the ASGI cycle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from http import HTTPStatus
from typing import Any, Literal, Protocol

from headgate.gateway.cors import CorsPolicy
from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.http.base_url import build_base_url
from headgate.kit.http.message import Headers
from headgate.relay.body_budget import BodyBudget
from headgate.relay.call import CallerListener

LENGTH_LINE = b"\r\ncontent-length: "
"""With its line break: a value, such as a model's name, may contain the same text."""
STATUS_LINES = {
    status: b"HTTP/1.1 %d %s\r\n"
    % (status, HTTPStatus(status).phrase.encode() if status in set(HTTPStatus) else b"")
    for status in range(100, 600)
}
BUFFERED_BODY_BYTES = 256 * 1024
"""How much of a streamed body waits in memory before reading from the sender is paused."""


class BrokenRequestBodyError(HeadgateError):
    """The connection closed before the request body was complete.

    Send the request again.
    """

    kind = Kind.INVALID
    code = "request_body_broken"


class RequestTooLargeError(HeadgateError):
    """The request body is larger than the limit.

    Send less, or raise the limit that the message names.
    """

    kind = Kind.TOO_LARGE
    code = "request_too_large"


class ClientConnection(Protocol):
    """Carry one exchange after the other; the edge's protocol implements it."""

    @property
    def date_line(self) -> bytes: ...

    @property
    def cors(self) -> CorsPolicy | None:
        """Return the policy for pages of other origins, None where there is none."""
        ...

    scheme: Literal["http", "https"] | None

    @property
    def is_slow(self) -> bool:
        """Return whether much of what was written has not been taken yet."""
        ...

    @property
    def write(self) -> Callable[[bytes], None]:
        """Return the function that sends bytes at the end of the loop's turn. It never blocks."""
        ...

    def complete(self, exchange: InboundExchange, *, keep: bool) -> None:
        """Go on with the next request, or close: the response is written."""
        ...

    def pause_body(self) -> None:
        """Stop reading: enough of the body is waiting."""
        ...

    def resume_body(self) -> None: ...

    def find_client_address(self, headers: Headers) -> str:
        """Return the address of the client that sent a request with these headers."""
        ...


class InboundExchange:
    """Hold a request as it arrives, and be the `Caller` that its response goes to."""

    __slots__ = (
        "_body_arrived",
        "_chunked",
        "_connection",
        "_listener",
        "_pieces",
        "body_bytes_max",
        "body_complete",
        "budget",
        "budget_key_id",
        "content_length",
        "expects_continue",
        "gone",
        "has_enough",
        "headers",
        "held_bytes",
        "http_version",
        "keep_alive",
        "may_take_long",
        "method",
        "refusal",
        "request_head",
        "response_complete",
        "response_started",
        "sent_bytes",
        "streams_body",
        "takes_trailers",
        "target",
        "task",
        "waiting_bytes",
    )

    def __init__(
        self,
        connection: ClientConnection,
        method: bytes,
        target: bytes,
        headers: Headers,
        *,
        http_version: str,
        keep_alive: bool,
    ) -> None:
        self._connection = connection
        self._pieces: list[bytes] = []
        self._body_arrived: asyncio.Future[None] | None = None
        self._listener: CallerListener | None = None
        self._chunked = False
        self.sent_bytes = 0
        self.method = method
        self.target = target
        self.headers = headers
        self.http_version = http_version
        self.keep_alive = keep_alive
        self.expects_continue = False
        self.takes_trailers = False
        """Whether the client accepts trailers; once the response began, whether it may have any."""
        self.waiting_bytes = 0
        """How much of the body arrived and was not taken yet."""
        self.content_length: int | None = None
        self.body_bytes_max = 0
        self.budget: BodyBudget | None = None
        """Counts the memory of bodies, by key. None until the head is read."""
        self.budget_key_id = ""
        self.held_bytes = 0
        """How much `budget` counts for this exchange."""
        self.body_complete = False
        self.streams_body = False
        self.may_take_long = False
        """Whether the body has a minimum rate, but no absolute deadline."""
        self.request_head: Any = None
        """What the handler read from the head; opaque to the edge."""
        self.refusal: HeadgateError | None = None
        """The error to answer with, once the body has been received or given up."""
        self.task: asyncio.Task[None] | None = None
        """The handler's task, once it runs."""
        self.gone = False
        self.has_enough = False
        self.response_started = False
        self.response_complete = False

    @property
    def client_address(self) -> str:
        """Return the peer's address, or the one that trusted proxies name (`forwarding`).

        Computed at each call. Raise `MalformedForwardedAddressError`.
        """
        return self._connection.find_client_address(self.headers)

    @property
    def base_url(self) -> str:
        """Guess the base URL that the client should use, from its Host header."""
        return build_base_url(self.headers, scheme=self._connection.scheme or "http")

    @property
    def has_listener(self) -> bool:
        """Return whether a response is being made, so that a disconnect has a listener."""
        return self._listener is not None

    # The request's body: called by the connection.

    def reserve_memory(self, size: int) -> None:
        if self.budget is not None:
            self.budget.take(self.budget_key_id, size)
            self.held_bytes += size

    def feed(self, data: bytes) -> None:
        """Add a piece of the body; of a refused request it is only counted."""
        self.waiting_bytes += len(data)
        if self.refusal is None:
            self._pieces.append(data)
        if self._body_arrived is not None:
            self._notify()

    def end(self) -> None:
        self.body_complete = True
        if self._body_arrived is not None:
            self._notify()

    def abort_body(self, error: HeadgateError) -> None:
        """End a body that will never be complete; `error` is the response, if none has begun."""
        self.refusal = error
        # Lets the request be answered in its turn, without waiting for the whole body.
        self.streams_body = True
        self._notify()

    def drop_body(self) -> None:
        self._pieces = []

    def take_body(self) -> bytes:
        """Return what arrived of the body: all of it, once it is complete."""
        pieces, self._pieces = self._pieces, []
        self.waiting_bytes = 0
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def stream_body(self) -> AsyncGenerator[bytes, None]:
        """Yield the body in pieces.

        Raise `BrokenRequestBodyError` when the sender disconnects, `RequestTooLargeError` past the
        limit, and the error of `abort_body`.
        """
        total = 0
        while True:
            if self._pieces:
                data = self.take_body()
                total += len(data)
                if total > self.body_bytes_max:
                    raise RequestTooLargeError(describe_limit(self.body_bytes_max))
                self._connection.resume_body()
                yield data
            elif self.body_complete:
                return
            elif self.refusal is not None:
                raise self._take_refusal()
            elif self.gone:
                raise BrokenRequestBodyError("The connection closed before the body was complete.")
            else:
                self._body_arrived = asyncio.get_running_loop().create_future()
                await self._body_arrived

    def _take_refusal(self) -> HeadgateError:
        # Handed out once: the error's traceback refers to this object, which would be a cycle.
        refusal, self.refusal = self.refusal, None
        assert refusal is not None
        return refusal

    def _notify(self) -> None:
        if self._body_arrived is not None and not self._body_arrived.done():
            self._body_arrived.set_result(None)

    # The response: called by the pipeline (`relay.call.Caller`).

    def answer(self, status: int, head: bytes, body: bytes) -> None:
        # 204 and 304 have no body, so a length would be wrong (RFC 9110 8.6).
        needs_length = status not in (204, 304) and LENGTH_LINE not in b"\r\n" + head
        self._send(
            b"%b%b%b%b%b\r\n%b"
            % (
                STATUS_LINES[status],
                head,
                self._connection.date_line,
                self._render_connection_header(),
                b"content-length: %d\r\n" % len(body) if needs_length else b"",
                body if self.method != b"HEAD" else b"",
            )
        )
        self._complete(keep=self.keep_alive)

    def start(self, status: int, head: bytes, trailer_names: bytes = b"") -> None:
        has_length = LENGTH_LINE in b"\r\n" + head
        self._chunked = not has_length and self.http_version == "1.1"
        self.keep_alive = self.keep_alive and (self._chunked or has_length)
        if self.takes_trailers:
            self.takes_trailers = self._chunked and bool(trailer_names)
            head += b"trailer: %b\r\n" % trailer_names if self.takes_trailers else b""
        self._send(
            b"%b%b%b%b%b\r\n"
            % (
                STATUS_LINES[status],
                head,
                self._connection.date_line,
                self._render_connection_header(),
                b"transfer-encoding: chunked\r\n" if self._chunked else b"",
            )
        )

    def write(self, data: bytes) -> None:
        if self.gone or self.method == b"HEAD":
            return
        size = len(data)
        self.sent_bytes += size
        if self._chunked:
            data = b"%x\r\n%b\r\n" % (size, data)
        self._connection.write(data)

    def finish(self, *, complete: bool = True, trailers: bytes = b"") -> None:
        if self.response_complete:
            return
        if self._chunked and complete and not self.gone and self.method != b"HEAD":
            self._connection.write(b"0\r\n%b\r\n" % trailers if trailers else b"0\r\n\r\n")
        self._complete(keep=self.keep_alive and complete)

    def set_listener(self, listener: CallerListener | None) -> None:
        self._listener = listener
        if listener is not None and self._connection.is_slow:
            listener.pause()

    def abandon(self) -> None:
        if self.task is not None:
            self.task.cancel()

    # Called by the connection.

    def pause_writing(self) -> None:
        if self._listener is not None:
            self._listener.pause()

    def resume_writing(self) -> None:
        if self._listener is not None:
            self._listener.resume()

    def disconnect(self) -> None:
        """Tell the reader of the body and the listener that the connection is gone."""
        self.gone = True
        self._notify()
        if self._listener is not None:
            self._listener.connection_lost()

    def _send(self, head: bytes) -> None:
        self.response_started = True
        if not self.gone:
            self._connection.write(head)

    def _render_connection_header(self) -> bytes:
        """Keep the connection only where the whole body has arrived."""
        self.keep_alive = self.keep_alive and self.body_complete
        if not self.keep_alive:
            return b"connection: close\r\n"
        return b"connection: keep-alive\r\n" if self.http_version == "1.0" else b""

    def _complete(self, *, keep: bool) -> None:
        self.response_complete = True
        self._connection.complete(self, keep=keep)


class CorsExchange(InboundExchange):
    __slots__ = ()

    def answer(self, status: int, head: bytes, body: bytes) -> None:
        super().answer(status, head + self._render(), body)

    def start(self, status: int, head: bytes, trailer_names: bytes = b"") -> None:
        super().start(status, head + self._render(), trailer_names)

    def _render(self) -> bytes:
        policy = self._connection.cors
        return b"" if policy is None else policy.render(self.target, self.headers)


def describe_limit(bytes_max: int) -> str:
    return f"The request body is larger than the {bytes_max} bytes allowed here."


def release_memory(exchange: InboundExchange) -> None:
    """Release what an exchange holds of the memory for bodies. Idempotent."""
    if exchange.held_bytes and exchange.budget is not None:
        exchange.budget.give(exchange.budget_key_id, exchange.held_bytes)
        exchange.held_bytes = 0
