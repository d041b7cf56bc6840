"""Describe requests and responses of the egress client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Protocol

import msgspec

Headers = list[tuple[bytes, bytes]]
"""Names in lower case, values without line breaks, in order of appearance."""


class Origin(msgspec.Struct, frozen=True):
    """Name where a request goes: the unit of pooling, and what a secret is bound to."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


class Timeouts(msgspec.Struct, frozen=True):
    """Hold the deadlines of one request, in seconds: `total` spans everything, the others one phase
    each."""

    connect_seconds: float = 5.0
    first_byte_seconds: float = 60.0
    idle_seconds: float = 60.0
    total_seconds: float = 600.0


class Request(msgspec.Struct, frozen=True):
    """Describe one outgoing request.

    `target` is the origin-form path with query. `host`, `content-length`, `transfer-encoding` and
    `connection` are set by the client. `body` is bytes (may be sent again) or an asynchronous
    iterator (sent once, chunked unless `content_length` is given). `purpose` names the egress rule
    that allows the origin; empty means the default rule.
    """

    origin: Origin
    method: bytes
    target: bytes
    headers: Headers
    body: bytes | AsyncIterator[bytes]
    timeouts: Timeouts
    content_length: int | None = None
    purpose: str = ""


HoldBytes = Callable[[int], None]


class Sink(Protocol):
    """Receive a response body piece by piece, on the loop's thread, as it arrives."""

    def on_data(self, data: bytes) -> None:
        """Accept the next bytes (transfer coding removed, content coding untouched)."""
        ...

    def on_end(self) -> None:
        """Accept the end of the body. Nothing follows."""
        ...

    def on_failure(self, error: Exception) -> None:
        """Accept the error that broke the body off (of `kit.http.errors`). Nothing follows."""
        ...


class Response(Protocol):
    """Represent a response whose head has arrived. Use exactly one of `read` and `stream`, or
    `abort`."""

    status: int
    headers: Headers

    async def read(self, bytes_max: int, hold: HoldBytes | None = None) -> bytes:
        """Return the whole body.

        Raise `ResponseTooLargeError` past `bytes_max`, other errors as `Sink.on_failure`. `hold` is
        told of the bytes that are about to be held beyond the first few; what it raises ends the
        exchange, and is raised.
        """
        ...

    def stream(self, sink: Sink) -> None:
        """Deliver the body to the sink; what has arrived already is delivered at once."""
        ...

    def pause(self) -> None:
        """Stop reading from the peer: the sink's own reader is slow."""
        ...

    def resume(self) -> None: ...

    def abort(self) -> None:
        """Close the connection now; the sink hears nothing more. Idempotent."""
        ...


class Client(Protocol):
    """Describe the egress client; `client.HttpClient` implements it."""

    async def send(self, request: Request) -> Response:
        """Send the request and wait for the response's head.

        Raise the errors of `kit.http.errors`. Cancelling the awaiting task aborts the exchange and
        closes its connection.
        """
        ...
