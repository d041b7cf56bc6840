"""Hold the state of one call while it runs through the pipeline."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import cast

import msgspec

from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.http.exchange import UNHELD_BYTES
from headgate.llm.convert.losses import Losses
from headgate.llm.request import JsonRequest
from headgate.llm.usage import ParsedUsage
from headgate.relay.call import Call, Caller
from headgate.relay.conversion import Conversion
from headgate.relay.ports import BackgroundResponse, Credential, Hold, Model, Receipt
from headgate.relay.targets import CallEvent, Target


class ClientDisconnectedError(HeadgateError):
    """The client closed the connection before the answer was complete.

    Send the request again; what was delivered is billed.
    """

    kind = Kind.TIMEOUT
    code = "caller_left"


class GatewayStoppingError(HeadgateError):
    """The gateway is shutting down.

    Send the request again; another process or the next start answers it.
    """

    kind = Kind.UNAVAILABLE
    code = "gateway_stopping"

    @classmethod
    def for_call(cls, *, sent: bool) -> GatewayStoppingError:
        """Return the error for a call that was sent to the provider already, or was not."""
        if not sent:
            return cls("The gateway is stopping. Nothing was charged.", should_retry=True)
        return cls(
            "The gateway is stopping. The provider has the call and may have done the work, so it "
            "is charged by an estimate.",
            should_retry=False,
        )


class KeyRevokedError(HeadgateError):
    """The key was revoked, disabled or expired while the call ran.

    Use another key.
    """

    kind = Kind.UNAUTHENTICATED
    code = "invalid_api_key"

    @classmethod
    def during_call(cls) -> KeyRevokedError:
        return cls(
            "The API key was revoked, disabled or expired while the call ran.", should_retry=False
        )


class InternalError(HeadgateError):
    """The gateway failed. The log has the details, under the request id.

    Report it with `x-headgate-request-id`.
    """

    kind = Kind.FAULT
    code = "internal_error"

    @classmethod
    def for_request(cls, request_id: str) -> InternalError:
        return cls(
            f"The gateway failed on this request. Its log has the details under {request_id}."
        )


class ReceiptNotRecordedError(HeadgateError):
    """The receipt could not be stored, so the provider's answer is withheld (law 1).

    Try again when the database works.
    """

    kind = Kind.UNAVAILABLE
    code = "storage_unavailable"

    @classmethod
    def for_request(cls, request_id: str) -> ReceiptNotRecordedError:
        """Return the error for one call. It asks for no retry, since the provider would work
        again."""
        return cls(
            "The provider answered, but the gateway could not record the call, and what is not "
            f"recorded is not passed on. {request_id} is recorded as broken once that is possible.",
            should_retry=False,
        )


class ResponseMemoryExhaustedError(HeadgateError):
    """There is no memory left for the provider's answer, which it may have charged for.

    Try again in a moment.
    """

    kind = Kind.UNAVAILABLE
    code = "overloaded"


class CallState(msgspec.Struct, weakref=True):
    """Hold the state of one call. Times are in monotonic seconds, 0.0 for what did not happen."""

    call: Call
    parsed_usage: ParsedUsage
    credential: Credential | None = None
    model: Model | None = None
    model_id: str | None = None
    """The requested model's id within the integration of the credential."""
    target: bytes = b""
    body: JsonRequest | bytes | AsyncIterator[bytes] = b""
    body_bytes: int = 0
    cache_status: str = "bypass"
    response_bytes: int = 0
    """Bytes of the answer's body, as the caller gets it."""
    streams: bool = False
    """Whether the caller asked for a stream."""
    requested_usage: bool = False
    """Whether the gateway asked for the usage event and the caller did not; it is then left out."""
    body_without_usage: JsonRequest | None = None
    """The body without the field that asks for usage, for a provider that rejects the field."""
    hold: Hold | None = None
    output_limit: int | None = None
    """The output limit that the gateway chose for the call; None where it sent the client's."""
    attempts: int = 0
    was_sent: bool = False
    """Whether the provider may have received the last attempt, and so may have charged for it."""
    status: int = 0
    outcome: str = "refused"
    error_code: str | None = None
    error_message: str = ""
    """What the provider said of its error, for the events of a call with a route."""
    streamed: bool = False
    was_cut: bool = False
    """Whether the caller had enough of the answer before its end, so that its usage is unknown."""
    upstream_request_id: str | None = None
    sent_at: float = 0.0
    first_byte_at: float = 0.0
    answered_at: float = 0.0
    caller: Caller | None = None
    """The client, whose memory budget pays for what is held of the answer."""
    is_background: bool = False
    """Whether the call creates a response in the background, or names one."""
    background: BackgroundResponse | None = None
    """The response in the background that the call reads, cancels or deletes."""
    capacity: object = None
    """What the call was counted against, which belongs to the `CapacityGate`; None for nothing."""
    losses: Losses | None = None
    """Fields of the request that the provider does not take, and that were left out; None for
    none."""
    on_answer_id: Callable[[], None] | None = None
    """Told once, when a stream has shown the provider's id of its answer."""
    routed_target: Target | None = None
    """The target of `Call.route` that is tried or has answered; None without a route."""
    target_index: int = 0
    """The place of that target among those of the route."""
    failed_attempts: int = 0
    """The attempts that were made on targets which failed."""
    events: tuple[CallEvent, ...] = ()
    """What was decided about the call so far: its routing, and each fallback."""
    gate_seconds: float | None = None
    """The time that the checks of capacity took; None where none were made."""
    failed_seconds: float = 0.0
    """The time that was spent on targets which failed before the one that answered."""
    conversion: Conversion | None = None
    """What stands between client and provider; None for a provider that speaks the client's API."""

    def reserve_copies(self) -> None:
        """Count the large bodies that are kept beside the client's own: the one that is sent, and
        the one that is sent when the provider rejects the request for usage.

        Raise as `Caller.reserve_memory`.
        """
        size = 0
        for body in (self.body, self.body_without_usage):
            if body is not None and body is not self.call.body:
                size += len(body.body if isinstance(body, JsonRequest) else cast("bytes", body))
        if size > UNHELD_BYTES and self.caller is not None:
            self.caller.reserve_memory(size)

    def limit_output(self, limit: int, names: Sequence[str]) -> None:
        """Send this output limit to the provider, in the fields of these names.

        Raise as `Caller.reserve_memory`.
        """
        self.output_limit = limit
        for name in ("body", "body_without_usage"):
            body = getattr(self, name)
            if not isinstance(body, JsonRequest):
                continue
            limited = body.with_output_limit(limit, names)
            setattr(self, name, limited)
            # A copy of the client's body is new; a copy of a copy replaces one that is counted.
            if body is self.call.body and len(limited.body) > UNHELD_BYTES and self.caller:
                self.caller.reserve_memory(len(limited.body))

    def reserve_answer(self, size: int) -> None:
        """Count further bytes of the answer, before they are held.

        Raise `ResponseMemoryExhaustedError`.
        """
        if self.caller is None:
            return
        try:
            self.caller.reserve_memory(size)
        except HeadgateError:
            raise ResponseMemoryExhaustedError(
                "The gateway has no memory left for the provider's answer. The provider may have "
                "charged for it, so the call is recorded as broken.",
                should_retry=False,
            ) from None

    def record_head(self, status: int, request_id: str | None, now: float) -> None:
        self.status = status
        self.upstream_request_id = request_id
        self.first_byte_at = self.answered_at = now

    def end_early(
        self, cause: BaseException, *, disconnected: bool, now: float = 0.0
    ) -> HeadgateError:
        """Record why the call ended early, and return the error for a caller that still waits.

        Where the provider was sent to and has not answered whole, the time until `now` counts as
        its.
        """
        if self.sent_at and self.answered_at == self.first_byte_at:
            self.answered_at = now
        if isinstance(cause, HeadgateError) and not isinstance(cause, ClientDisconnectedError):
            error, self.outcome = cause, self._outcome_of(cause)
        else:
            error = (
                ClientDisconnectedError("The client disconnected.")
                if disconnected
                else GatewayStoppingError.for_call(sent=self.was_sent)
            )
            # `gateway/cancellation.py` cancels the task with the error as its message.
            if cause.args and isinstance(cause.args[0], KeyRevokedError):
                error = cause.args[0]
            self.outcome = "cancelled"
        if not self.streamed:
            self.status = error.kind.value
        self.error_code = error.code
        return error

    def mark_unrecorded(self, receipt: Receipt) -> Receipt:
        """Return the receipt of an answer that was withheld because it could not be recorded."""
        if receipt.outcome != "completed":
            return receipt
        status = receipt.status if self.streamed else ReceiptNotRecordedError.kind.value
        return msgspec.structs.replace(
            receipt, outcome="broken", error_code=ReceiptNotRecordedError.code, status=status
        )

    def _outcome_of(self, error: HeadgateError) -> str:
        if not self.attempts:
            return "refused"
        if error.kind in (Kind.UPSTREAM, Kind.UPSTREAM_TIMEOUT):
            return "unknown" if self.was_sent else "upstream_error"
        return "broken"
