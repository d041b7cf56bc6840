"""Build the receipt of a finished call."""

from __future__ import annotations

from headgate.llm.redaction import redact_text
from headgate.llm.request import JsonRequest
from headgate.relay.call import Call
from headgate.relay.call_state import CallState
from headgate.relay.ports import Receipt
from headgate.relay.pricing import Charge

MICROSECONDS = 1_000_000


ROOT = "/v1"
"""The prefix of every endpoint's path."""


def build_receipt(
    state: CallState, charge: Charge, *, created_at: float, ended_at: float
) -> Receipt:
    """Build the receipt of a call; `created_at` is in unix seconds, `ended_at` monotonic."""
    call, parsed, credential = state.call, state.parsed_usage, state.credential
    grant = call.grant
    if credential is not None:
        _mask_secret(state, credential.secret)
    sent_at, first_byte_at, answered_at = state.sent_at, state.first_byte_at, state.answered_at
    body = call.body
    total = ended_at - call.started_at
    upstream = answered_at - sent_at if answered_at else 0.0
    # By position, in the order of `Receipt`: so many keywords would take ten times as long.
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
        call.model if call.route is None else call.route.resource_name,
        parsed.model,
        parsed.answer_id,
        state.upstream_request_id,
        call.correlation_id,
        state.status,
        state.outcome,
        state.error_code or parsed.error_code or parsed.incomplete_reason,
        state.streamed,
        charge.usage,
        charge.estimated,
        parsed.service_tier,
        charge.pricing,
        charge.reason,
        charge.price_id,
        charge.cost_nano,
        state.attempts + state.failed_attempts,
        int((first_byte_at - sent_at) * MICROSECONDS) if first_byte_at else -1,
        int(upstream * MICROSECONDS) if answered_at else -1,
        int(total * MICROSECONDS),
        int((total - upstream - state.failed_seconds) * MICROSECONDS),
        ROOT + call.endpoint.path,
        # Inlined for JSON, the usual body, to save a call.
        len(body.body) if type(body) is JsonRequest else count_request_bytes(call),
        state.response_bytes,
        call.metadata,
        state.cache_status,
        # Credits pay first, and the wallet the rest.
        min(state.hold.credit_nano, charge.cost_nano) if state.hold else 0,
    )


def count_request_bytes(call: Call) -> int:
    """Count the bytes of a body that is not JSON; 0 for a stream without a length."""
    body = call.body
    return len(body) if isinstance(body, bytes) else call.content_length or 0


def _mask_secret(state: CallState, secret: bytes) -> None:
    """Mask the provider's key in what the provider said of its answer, before that is recorded."""
    parsed = state.parsed_usage
    texts = f"{parsed.model}{parsed.answer_id}{parsed.error_code}{parsed.service_tier}"
    texts += f"{state.error_code}{parsed.incomplete_reason}"
    if redact_text(texts, secret) == texts:
        return
    for owner, names in (
        (parsed, ("model", "answer_id", "error_code", "service_tier", "incomplete_reason")),
        (state, ("error_code",)),
    ):
        for name in names:
            setattr(owner, name, redact_text(getattr(owner, name) or "", secret) or None)
