"""Follow one call of a project that keeps a request log, from its body to the end of its answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import msgspec

from headgate.kit.errors import HeadgateError
from headgate.kit.http.message import Headers
from headgate.llm.headers import DENIED
from headgate.llm.request import JsonRequest
from headgate.relay.call import Call, Caller
from headgate.relay.call_state import CallState
from headgate.relay.caller_wrapper import CallerWrapper, CapturedBody
from headgate.relay.ports import Receipt

ERROR_BYTES_MAX = 64 * 1024
ERROR = 400
CONTENT_TYPE = b"content-type"
OWN_PREFIXES = (b"x-headgate-", b"x-vmx-")
SECRET = frozenset({b"x-headgate-signature"})


class FollowedCall(CallerWrapper):
    """Stand before the client of a call (`relay.call.Caller`), be its record
    (`relay.call.CallRecord`), and tell `on_end` once, when the answer is complete or has failed.

    With `bytes_max` above 0, what the client sent and gets is kept, up to so many bytes of the
    answer.
    """

    def __init__(
        self,
        call: Call,
        caller: Caller,
        *,
        target: bytes,
        headers: Headers,
        client_address: str,
        bytes_max: int,
        on_end: Callable[[FollowedCall], None],
    ) -> None:
        super().__init__(caller)
        self.call = call
        self.target = target
        self.headers = headers
        self._client_address = client_address
        self.endpoint = call.endpoint.name
        self.method = call.method
        self.keeps_bodies = bytes_max > 0
        self.request_body = read_body(call.body) if bytes_max > 0 else None
        self.state: CallState | None = None
        self.receipt: Receipt | None = None
        self.error: HeadgateError | None = None
        self.status = 0
        self.head = b""
        self.response = CapturedBody(caller, bytes_max)
        self.failure_reason = ""
        self._on_end: Callable[[FollowedCall], None] | None = on_end

    # The record.

    def settle(self, state: Any, receipt: Receipt) -> None:
        self.state, self.receipt = state, receipt

    def fail(self, error: HeadgateError, head: bytes, body: bytes) -> None:
        self.error = error
        if body:
            self.status, self.head = error.kind.value, head
            self.response.add(body)
        self._end()

    # The caller.

    @property
    def client_address(self) -> str:
        return self._client_address

    def answer(self, status: int, head: bytes, body: bytes) -> None:
        self.status, self.head = status, head
        if status >= ERROR:
            self.failure_reason = read_error(body)
        self.response.add(body)
        self._caller.answer(status, head, body)
        self._end()

    def start(self, status: int, head: bytes, trailer_names: bytes = b"") -> None:
        self.status, self.head = status, head
        super().start(status, head, trailer_names)

    def write(self, data: bytes) -> None:
        self.response.add(data)
        self._caller.write(data)

    def finish(self, *, complete: bool = True, trailers: bytes = b"") -> None:
        self._caller.finish(complete=complete, trailers=trailers)
        self._end()

    def _end(self) -> None:
        """Tell the end, once."""
        on_end, self._on_end = self._on_end, None
        if on_end is None:
            return
        on_end(self)
        # These refer back to this object, and would keep the bodies until the collector runs.
        self.call.record = self.state = self.error = None
        del self.call


def read_body(body: object) -> bytes | None:
    """Return the body of a call as the client sent it; None for one that is streamed through."""
    if isinstance(body, JsonRequest):
        return body.body
    return body if isinstance(body, bytes) else None


def read_error(body: bytes) -> str:
    """Return the message of an error in the shapes of OpenAI, Anthropic and the platform; empty
    for another body."""
    if len(body) > ERROR_BYTES_MAX:
        return ""
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
    if not isinstance(decoded, dict):
        return ""
    fields = cast("dict[str, Any]", decoded)
    error = fields.get("error", fields.get("detail", ""))
    if isinstance(error, dict):
        error = cast("dict[str, Any]", error).get("message", "")
    return error if isinstance(error, str) else ""


def list_headers(headers: Headers) -> tuple[tuple[str, str], ...]:
    """Return the headers of a client that a replay sends again: those for the provider and for the
    gateway, and nothing that authenticates."""
    return tuple(
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in headers
        if not DENIED.denies(name) or (name.startswith(OWN_PREFIXES) and name not in SECRET)
    )
