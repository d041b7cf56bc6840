"""Describe a call and its caller, as the pipeline and the edge exchange them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

import msgspec

from headgate.kit.errors import HeadgateError
from headgate.kit.http.message import Headers
from headgate.kit.rate_limiter import RateLimit
from headgate.llm.endpoint import Endpoint
from headgate.llm.request import JsonRequest
from headgate.llm.vmx import Envelope
from headgate.relay.ports import Grant, Hold, Receipt
from headgate.relay.targets import CallRoute, RouteOptions


class CallClaim(Protocol):
    """Record a call that may be repeated."""

    def bind(self, response: Any) -> Callable[[Receipt, Hold | None], Awaitable[bool | None]]:
        """Return what records the receipt in the place of `Settlement.record`. `response` is the
        complete `ClientResponse`, None without one."""
        ...


class CallRecord(Protocol):
    """Take what becomes of a call whose project keeps a request log (`relay/request_log.py`)."""

    def settle(self, state: Any, receipt: Receipt) -> None:
        """Take the call's `CallState` and its receipt, once that is committed. Must not raise."""
        ...

    def fail(self, error: HeadgateError, head: bytes, body: bytes) -> None:
        """Keep the call with the error that ends it, and the answer that tells the client; both
        are empty where another answer has begun. Must not raise."""
        ...


class Call(msgspec.Struct):
    """Hold a decoded request.

    `path` is below `/v1`, percent-encoded as it came, with its slash. `body` is a decoded JSON
    object, whole bytes, or a stream that can be read once; `content_length` is known for a stream
    that announced it. `headers` are those that may be forwarded to the provider. `started_at` is in
    monotonic seconds.
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
    """The key's rate limits after this call; empty for a key without limits."""
    fits_budget: bool = False
    """Whether the output limit may be lowered to what budget and balance cover."""
    tokens_reserved: int = 0
    """Tokens taken from the key's minute until the call is settled."""
    metadata: str = ""
    """The caller's own pairs for the receipt, as JSON; not those of the body."""
    claim: CallClaim | None = None
    """The claim of its `Idempotency-Key`, which ends with the settlement."""
    bypasses_cache: bool = False
    native_body: JsonRequest | None = None
    """The client's own body where `body` is what it was converted to; None otherwise."""
    digest: bytes = b""
    """The hash of the client's request where another one is sent in its place; empty otherwise."""
    has_plan_place: bool = False
    """Whether it occupies one of the concurrent managed calls that the plan allows."""
    record: CallRecord | None = None
    """Its entry in the request log, of a project that keeps one."""
    account_id: str | None = None
    """The platform's credential with which a call of this project created the stored response that
    the path names; the call may use it."""
    route: CallRoute | None = None
    """Where the call goes by its resource or ad-hoc target; None for a model."""
    route_options: RouteOptions | None = None
    """What the request asks of its route; None where it asks nothing."""
    is_strict: bool = False
    """Whether the call is refused where a conversion would lose something (`check_losses`)."""
    envelope: Envelope | None = None
    """The `vmx` envelope, None for the calls of other clients."""
    retries_max: int | None = None
    """The most retries that its client wants; None where the settings or its target decide."""
    deadline_seconds: float | None = None
    """The most that the call may take at its provider, all attempts included; the deadlines of
    credential and model hold beside it. With a route it holds for each target."""


class Caller(Protocol):
    """Represent the client of a call for the pipeline; the edge implements it.

    Writes never block: for a slow reader the edge calls `pause` of the listener, and `resume`
    later.
    """

    takes_trailers: bool
    """Whether the client accepts trailer fields after the body."""

    @property
    def gone(self) -> bool: ...

    @property
    def sent_bytes(self) -> int:
        """Return the bytes written of a body that is sent in pieces."""
        ...

    @property
    def has_enough(self) -> bool:
        """Return whether it wants no more of an answer that is sent in pieces."""
        ...

    @property
    def client_address(self) -> str:
        """Return the client's address, empty where it is not known.

        Raise a `HeadgateError` where a proxy reported a malformed one.
        """
        ...

    def reserve_memory(self, size: int) -> None:
        """Count bytes that are held for this caller until it has taken its answer.

        Raise a `HeadgateError` where there is no memory for them.
        """
        ...

    def answer(self, status: int, head: bytes, body: bytes) -> None:
        """Send a whole answer at once; `head` are its header lines, each with its line end."""
        ...

    def start(self, status: int, head: bytes, trailer_names: bytes = b"") -> None:
        """Send the head of an answer whose body follows in pieces; `trailer_names` announces
        trailers."""
        ...

    def write(self, data: bytes) -> None: ...

    def finish(self, *, complete: bool = True, trailers: bytes = b"") -> None:
        """End the body. An incomplete one also ends the connection, so that the client notices.
        `trailers` are header lines, for a caller that takes them."""
        ...

    def set_listener(self, listener: CallerListener | None) -> None:
        """Set who is told of a slow reader and of a lost connection; None for nobody."""
        ...

    def abandon(self) -> None: ...


class FlowControl(Protocol):
    def pause(self) -> None:
        """Stop writing: the reader's buffer is above its high-water mark."""
        ...

    def resume(self) -> None:
        """Write again: the buffer is below its low-water mark."""
        ...


class CallerListener(FlowControl, Protocol):
    """Receive what happens to the client's connection while an answer is on its way."""

    def connection_lost(self) -> None: ...
