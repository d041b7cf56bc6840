"""One request on its way: what was asked, by whom, and who waits for the answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

import msgspec

from headgate.kit.http.message import Headers
from headgate.kit.rate_limiter import RateLimit
from headgate.llm.endpoint import Endpoint
from headgate.llm.request import JsonRequest
from headgate.relay.ports import Grant


class Call(msgspec.Struct):
    """A decoded request. `path` is below `/v1`, percent-encoded as it came, with its slash.

    `body` is a decoded JSON object, whole bytes, or a stream that can be read once;
    `content_length` is known for a stream that announced it. `headers` are those that may travel
    to the provider. `started_at` is in monotonic seconds.
    """

    request_id: str
    grant: Grant
    endpoint: Endpoint
    method: str
    path: bytes
    query: bytes
    headers: Headers
    body: JsonRequest | bytes | AsyncIterator[bytes]
    started_at: float
    model: str | None = None
    content_length: int | None = None
    credential_name: str | None = None
    correlation_id: str | None = None
    rate_limits: tuple[RateLimit, ...] = ()
    """What is left of the key's rates with this call; empty for a key without."""
    tokens_reserved: int = 0
    """Taken from the key's tokens per minute until the call is settled."""


class Caller(Protocol):
    """The side that asked, as the pipeline sees it; the edge implements it.

    Writes never block: with a slow reader the edge calls `pause` of the listener,
    and `resume` later.
    """

    gone: bool
    takes_trailers: bool
    """Whether fields may follow the body of an answer that has started."""
    sent_bytes: int
    """Of an answer's body in pieces, as they were written."""

    @property
    def client_address(self) -> str:
        """From where it asks, as far as that is known. Raises a `HeadgateError` where it was told
        and cannot be understood."""
        ...

    def reserve_memory(self, size: int) -> None:
        """Count bytes of an answer that are held for it, until it has taken its answer. Raises a
        `HeadgateError` where there is no memory for them."""
        ...

    def answer(self, status: int, head: bytes, body: bytes) -> None:
        """A whole answer at once; `head` are its header lines, each with its line end."""
        ...

    def start(self, status: int, head: bytes, trailer_names: bytes = b"") -> None:
        """The head of an answer whose body follows in pieces, and which fields may follow it."""
        ...

    def write(self, data: bytes) -> None:
        """The next piece."""
        ...

    def finish(self, *, complete: bool = True, trailers: bytes = b"") -> None:
        """The body is over; an incomplete one also ends the connection, so that it shows.
        `trailers` are header lines, for a caller who takes them."""
        ...

    def set_listener(self, listener: CallerListener | None) -> None:
        """Who wants to hear of a slow reader and of one that went away (None: nobody now)."""
        ...

    def abandon(self) -> None:
        """Cancel the work on the answer, which nobody waits for any more."""
        ...


class FlowControl(Protocol):
    """An answer whose speed the reader decides."""

    def pause(self) -> None:
        """The reader is slow: its buffer is above the high mark."""
        ...

    def resume(self) -> None:
        """The buffer is below the low mark again."""
        ...


class CallerListener(FlowControl, Protocol):
    """What the edge tells the pipeline while an answer is on its way."""

    def connection_lost(self) -> None:
        """The reader went away."""
        ...
