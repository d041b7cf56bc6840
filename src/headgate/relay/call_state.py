"""The state of one call: filled in step by step, closed into one receipt."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import cast

import msgspec

from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.http.exchange import UNHELD_BYTES
from headgate.llm.endpoint import Body, Pricing
from headgate.llm.estimate import (
    AUDIO_BYTES_PER_TOKEN,
    BYTES_PER_TOKEN,
    LOOKED_INTO_BYTES,
    estimate_input_tokens,
)
from headgate.llm.redaction import redact_text
from headgate.llm.request import JsonRequest, read_field
from headgate.llm.usage import Reading, Usage
from headgate.relay.call import Call, Caller
from headgate.relay.ports import Credential, Hold, Model, Models, Price, Receipt
from headgate.relay.usage_bounds import (
    AUDIO_MILLISECONDS_MAX,
    TOKENS_MAX,
    find_implausible,
)

MICROSECONDS = 1_000_000
ROOT = "/v1"
"""Where the addresses of endpoints begin."""


class ClientDisconnectedError(HeadgateError):
    kind = Kind.TIMEOUT
    code = "caller_left"


class GatewayStoppingError(HeadgateError):
    """The gateway ends, and the call with it."""

    kind = Kind.UNAVAILABLE
    code = "gateway_stopping"

    @classmethod
    def after(cls, *, sent: bool) -> GatewayStoppingError:
        """What a call is told that was sent to the provider already, or was not."""
        if not sent:
            return cls("The gateway is stopping. Nothing was charged.", should_retry=True)
        return cls(
            "The gateway is stopping. The provider has the call and may have done the work, so it "
            "is charged by an estimate.",
            should_retry=False,
        )


class KeyRevokedError(HeadgateError):
    """The key of a call was revoked, disabled or expired while the call ran."""

    kind = Kind.UNAUTHENTICATED
    code = "invalid_api_key"

    @classmethod
    def now(cls) -> KeyRevokedError:
        """What such a call is told. It is the message with which its task is cancelled."""
        return cls(
            "The API key was revoked, disabled or expired while the call ran.", should_retry=False
        )


class InternalError(HeadgateError):
    """A fault of the gateway's own: told in short, logged whole."""

    kind = Kind.FAULT
    code = "internal_error"

    @classmethod
    def of(cls, request_id: str) -> InternalError:
        """The fault that befell one call."""
        return cls(f"The gateway failed; its log says more of {request_id}.")


class ReceiptNotRecordedError(HeadgateError):
    """The answer is here and cannot be recorded, so it is not passed on (law 1)."""

    kind = Kind.UNAVAILABLE
    code = "storage_unavailable"

    @classmethod
    def of(cls, request_id: str) -> ReceiptNotRecordedError:
        """What became of one call. To ask again would have the provider do the work again."""
        return cls(
            "The provider answered, but the gateway could not record the call, and what is not "
            f"recorded is not passed on. {request_id} is recorded as broken once that is possible.",
            should_retry=False,
        )


class ResponseMemoryExhaustedError(HeadgateError):
    """There is no memory for an answer, which the provider has made and charged."""

    kind = Kind.UNAVAILABLE
    code = "overloaded"


class CallState(msgspec.Struct):
    """The state of one call. Times are monotonic seconds, 0.0 where it never came to that."""

    call: Call
    reading: Reading
    credential: Credential | None = None
    model: Model | None = None
    model_id: str | None = None
    """The id that was asked for, within the integration of the credential."""
    target: bytes = b""
    body: JsonRequest | bytes | AsyncIterator[bytes] = b""
    body_bytes: int = 0
    response_bytes: int = 0
    """Of the answer's body, as the caller gets it."""
    streams: bool = False
    """The caller asked for a stream."""
    requested_usage: bool = False
    """The gateway asked for the usage event, the caller did not (decision 8)."""
    body_without_usage: JsonRequest | None = None
    """The body without the field that asks, for a provider that refuses it."""
    hold: Hold | None = None
    attempts: int = 0
    was_sent: bool = False
    """The provider may have received the last attempt, and has not refused it: so it may have
    charged for it (decision 17)."""
    status: int = 0
    outcome: str = "refused"
    error_code: str | None = None
    streamed: bool = False
    upstream_request_id: str | None = None
    sent_at: float = 0.0
    first_byte_at: float = 0.0
    answered_at: float = 0.0
    caller: Caller | None = None
    """Who waits for the answer, and holds the memory that it takes."""

    def reserve_copies(self) -> None:
        """Count the large bodies that are kept beside the client's: the one that is sent, and the
        one that is sent where the provider refuses to be asked for usage. Raises what `Caller.hold`
        does."""
        size = 0
        for body in (self.body, self.body_without_usage):
            if body is not None and body is not self.call.body:
                size += len(body.body if isinstance(body, JsonRequest) else cast("bytes", body))
        if size > UNHELD_BYTES and self.caller is not None:
            self.caller.hold(size)

    def reserve_answer(self, size: int) -> None:
        """Count further bytes of the answer that are about to be held. Raises
        `ResponseMemoryExhaustedError`."""
        if self.caller is None:
            return
        try:
            self.caller.hold(size)
        except HeadgateError:
            raise ResponseMemoryExhaustedError(
                "The gateway has no memory left for the provider's answer. The provider may have "
                "charged for it, so the call is recorded as broken.",
                should_retry=False,
            ) from None

    def record_head(self, status: int, request_id: str | None, now: float) -> None:
        """The head of the provider's answer is here."""
        self.status = status
        self.upstream_request_id = request_id
        self.first_byte_at = self.answered_at = now

    def end_early(self, cause: BaseException, *, left: bool, now: float = 0.0) -> HeadgateError:
        """Record how the call ended early; the error that a caller who still waits is told.

        Until now the provider was waited for, if it was sent to and has not answered whole.
        """
        if self.sent_at and self.answered_at == self.first_byte_at:
            self.answered_at = now
        if isinstance(cause, HeadgateError) and not isinstance(cause, ClientDisconnectedError):
            error, self.outcome = cause, self._outcome_of(cause)
        else:
            error = (
                ClientDisconnectedError("The caller left.")
                if left
                else GatewayStoppingError.after(sent=self.was_sent)
            )
            if cause.args and isinstance(cause.args[0], KeyRevokedError):
                error = cause.args[0]
            self.outcome = "cancelled"
        if not self.streamed:
            self.status = error.kind.value
        self.error_code = error.code
        return error

    def mark_unrecorded(self, receipt: Receipt) -> Receipt:
        """The receipt of an answer that could not be recorded in time, and so was not whole."""
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


class Charge(msgspec.Struct, frozen=True):
    """What a call costs and how that is known."""

    pricing: str
    usage: Usage | None = None
    cost_nano: int = 0
    price_id: str | None = None
    reason: str | None = None
    estimated: bool = False


FREE = Charge(pricing="free")


def assess(state: CallState, models: Models, now: float) -> Charge:
    """The charge of a finished call: from reported usage, else from a stated estimate."""
    reading = state.reading
    usage = reading.usage
    estimated = False
    if state.call.endpoint.pricing is Pricing.FREE or not state.attempts:
        return FREE
    if usage is None:
        found = _assess_untold(state)
        if isinstance(found, Charge):
            return found
        usage, estimated = found, state.outcome != "completed"
    elif (
        usage.input_tokens > ((state.model and state.model.input_tokens_max) or TOKENS_MAX)
        or usage.output_tokens > ((state.model and state.model.output_tokens_max) or TOKENS_MAX)
        or usage.audio_milliseconds > AUDIO_MILLISECONDS_MAX
    ) and (reason := _find_implausible(state, usage)):
        return _implausible(state, reason)
    model_id = reading.model or state.call.model
    integration = state.credential.integration if state.credential else None
    price = models.price(reading.model, now, integration) if reading.model else None
    if price is None and state.call.model:
        asked = state.model.id if state.model else state.model_id or state.call.model
        price = models.price(asked, now, integration)
    if price is None:
        return _unpriced(state, usage, f"no price for {model_id}")
    cost = price.cost(usage, reading.service_tier)
    if cost is None:
        return _charge_known_part(state, usage, price, estimated=estimated)
    hold = state.hold
    if hold and cost > hold.amount_nano and (reason := _find_implausible(state, usage)):
        return _implausible(state, reason)
    return Charge("priced", usage, cost, price.id, estimated=estimated)


def _assess_untold(state: CallState) -> Charge | Usage:
    """The usage of an answer that told none, from the request or by an estimate; or the charge,
    where that needs none."""
    if not state.was_sent or (state.outcome == "upstream_error" and not state.reading.output_bytes):
        return FREE
    measured = measure_request(state)
    if state.outcome == "completed":
        return measured or _unpriced(state, None, "the provider reported no usage")
    if state.call.endpoint.pricing is Pricing.UNKNOWN:
        return _unpriced(state, None, "the endpoint has no price")
    return measured or estimate_usage(state)


def _charge_known_part(state: CallState, usage: Usage, price: Price, *, estimated: bool) -> Charge:
    """The charge where the price lacks a rate: without the tools whose fee nobody knows; for units
    that another measure stands in for, by that one; else for the tokens at their dearest rate."""
    tier = state.reading.service_tier
    fees = price.tool_fees
    unknown = sorted(name for name in usage.tool_calls if name not in fees)
    if unknown:
        known = {name: count for name, count in usage.tool_calls.items() if name in fees}
        cost = price.cost(msgspec.structs.replace(usage, tool_calls=known), tier)
        if cost is not None:
            reason = f"no fee is known for {', '.join(unknown)}"
            return Charge("partial", usage, cost, price.id, reason, estimated)
    measured = measure_request(state)
    if measured is not None:
        cost = price.cost(measured, tier)
        if cost is not None:
            return Charge("priced", measured, cost, price.id, estimated=estimated)
        if usage == measured:
            return _unpriced(state, None, "the provider reported no usage")
    bound = price.bound(usage.input_tokens, usage.output_tokens, None)
    return _unpriced(state, usage, f"no rate for it in {price.id}", bound)


def _unpriced(
    state: CallState, usage: Usage | None, reason: str, bound: int | None = None
) -> Charge:
    """Never silently nothing: a managed call whose price is not known costs what its tokens cost
    at the dearest rates, and where that is not known either, what was held."""
    held = state.hold.amount_nano if state.hold else 0
    cost = held if bound is None else min(bound, held)
    return Charge("unpriced", usage, cost, reason=reason, estimated=held > 0)


def _find_implausible(state: CallState, usage: Usage) -> str | None:
    is_managed = state.hold is not None
    return find_implausible(usage, state.model, state.call.body, is_managed=is_managed)


def _implausible(state: CallState, reason: str) -> Charge:
    """What was held, and no more, is taken for a usage that cannot be (decision 0019)."""
    held = state.hold.amount_nano if state.hold else 0
    return Charge("implausible", None, held, reason=reason, estimated=held > 0)


def measure_request(state: CallState) -> Usage | None:
    """The usage that the request alone tells, at addresses whose price may go by it."""
    field, body = state.call.endpoint.characters_of, state.call.body
    if field is None or not isinstance(body, JsonRequest):
        return None
    spoken = read_field(body.fields.get(field))
    return Usage(characters=len(spoken)) if isinstance(spoken, str) else None


def estimate_usage(state: CallState) -> Usage:
    """Usage of an answer that broke off: what was sent and delivered, by bytes, rounded up
    (decision 17); and the calls of tools that were told. Pictures, audio and files count as what
    they are, and not as text."""
    reading, body = state.reading, state.body
    if isinstance(body, JsonRequest) and state.body_bytes > LOOKED_INTO_BYTES:
        input_tokens = estimate_input_tokens(body.body, state.call.model)
    else:
        is_form = state.call.endpoint.body is Body.FORM
        per_token = AUDIO_BYTES_PER_TOKEN if is_form else BYTES_PER_TOKEN
        input_tokens = -(-state.body_bytes // per_token)
    return Usage(
        input_tokens=input_tokens,
        output_tokens=-(-reading.output_bytes // BYTES_PER_TOKEN),
        tool_calls={name: len(seen) for name, seen in (reading.tool_items or {}).items()},
    )


def write_receipt(
    state: CallState, charge: Charge, *, created_at: float, ended_at: float
) -> Receipt:
    """Close a call into its receipt; `created_at` is in unix seconds, `ended_at` monotonic.

    By position, in the order of `Receipt`: so many keywords would take ten times as long.
    """
    call, reading, credential = state.call, state.reading, state.credential
    grant = call.grant
    if credential is not None:
        _conceal(state, credential.secret)
    sent_at, first_byte_at, answered_at = state.sent_at, state.first_byte_at, state.answered_at
    body = call.body
    total = ended_at - call.started_at
    upstream = answered_at - sent_at if answered_at else 0.0
    return Receipt(
        call.request_id,
        created_at,
        grant.organization_id,
        grant.project_id,
        grant.key_id,
        credential.id if credential else None,
        credential.managed if credential else False,
        call.endpoint.name,
        call.method,
        credential.integration if credential else "",
        call.model,
        reading.model,
        reading.answer_id,
        state.upstream_request_id,
        call.correlation_id,
        state.status,
        state.outcome,
        state.error_code or reading.error_code or reading.incomplete_reason,
        state.streamed,
        charge.usage,
        charge.estimated,
        reading.service_tier,
        charge.pricing,
        charge.reason,
        charge.price_id,
        charge.cost_nano,
        state.attempts,
        int((first_byte_at - sent_at) * MICROSECONDS) if first_byte_at else -1,
        int(upstream * MICROSECONDS) if answered_at else -1,
        int(total * MICROSECONDS),
        int((total - upstream) * MICROSECONDS),
        ROOT + call.endpoint.path,
        # Without a call of its own where the body is JSON, as it mostly is.
        len(body.body) if type(body) is JsonRequest else count_request_bytes(call),
        state.response_bytes,
    )


def count_request_bytes(call: Call) -> int:
    """The bytes of a body that is no JSON; 0 for a stream that announced no length."""
    body = call.body
    return len(body) if isinstance(body, bytes) else call.content_length or 0


def _conceal(state: CallState, secret: bytes) -> None:
    """What a provider says of its answer is written down, but for the key it was called with."""
    reading = state.reading
    told = f"{reading.model}{reading.answer_id}{reading.error_code}{reading.service_tier}"
    told += f"{state.error_code}{reading.incomplete_reason}"
    if redact_text(told, secret) == told:
        return
    for owner, names in (
        (reading, ("model", "answer_id", "error_code", "service_tier", "incomplete_reason")),
        (state, ("error_code",)),
    ):
        for name in names:
            setattr(owner, name, redact_text(getattr(owner, name) or "", secret) or None)
