"""What the egress client is asked, and what it answers with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Protocol

import msgspec

Headers = list[tuple[bytes, bytes]]
"""Names in lower case, values without line breaks, in order of appearance."""


class Origin(msgspec.Struct, frozen=True):
    """Where a request goes: the unit of pooling, and what a secret is bound to."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


class Timeouts(msgspec.Struct, frozen=True):
    """Deadlines of one request, in seconds. `total` spans everything; the others one phase each."""

    connect_seconds: float = 5.0
    first_byte_seconds: float = 60.0
    idle_seconds: float = 60.0
    total_seconds: float = 600.0


class Request(msgspec.Struct, frozen=True):
    """One outgoing request. `target` is the origin-form path with query.

    `host`, `content-length`, `transfer-encoding` and `connection` are set by the client.
    `body` is bytes (may be sent again) or an asynchronous iterator (sent once, chunked unless
    `content_length` is given). `purpose` names the egress rule that allows the origin; empty: the
    one that holds for everybody.
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
    """Receives a response body piece by piece, on the loop's thread, as it arrives."""

    def on_data(self, data: bytes) -> None:
        """The next bytes of the body (transfer coding removed, content coding untouched)."""
        ...

    def on_end(self) -> None:
        """The body is complete. Nothing follows."""
        ...

    def on_failure(self, error: Exception) -> None:
        """The body broke off (an error of `kit.http.errors`). Nothing follows."""
        ...


class Response(Protocol):
    """A response whose head has arrived. Exactly one of `read` and `stream` is used, or `abort`."""

    status: int
    headers: Headers

    async def read(self, bytes_max: int, hold: HoldBytes | None = None) -> bytes:
        """The whole body; `ResponseTooLargeError` past `bytes_max`, other errors as
        `Sink.on_failure`.

        `hold` is told of the bytes that are about to be held beyond the first few; what it raises
        ends the exchange, and is raised.
        """
        ...

    def stream(self, sink: Sink) -> None:
        """Deliver the body to the sink; what has arrived already is delivered at once."""
        ...

    def pause(self) -> None:
        """Stop reading from the peer: the sink's own reader is slow."""
        ...

    def resume(self) -> None:
        """Go on reading."""
        ...

    def abort(self) -> None:
        """Close the connection now; the sink hears nothing more. Idempotent."""
        ...


class Client(Protocol):
    """What the call pipeline sees of the egress client; `client.HttpClient` is the real one."""

    async def send(self, request: Request) -> Response:
        """Send and wait for the response's head. Raises the errors of `kit.http.errors`.

        Cancelling the awaiting task aborts the exchange and closes its connection.
        """
        ...
