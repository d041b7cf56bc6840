"""Price a finished call: from the usage that its provider reported, else from an estimate."""

from __future__ import annotations

import msgspec

from headgate.llm.endpoint import Body, Pricing
from headgate.llm.estimate import (
    AUDIO_BYTES_PER_TOKEN,
    BYTES_PER_TOKEN,
    SCANNED_BYTES_MIN,
    estimate_input_tokens,
)
from headgate.llm.request import JsonRequest, read_field
from headgate.llm.usage import Usage
from headgate.relay.call_state import CallState
from headgate.relay.ports import ModelCatalog, Price
from headgate.relay.usage_bounds import (
    AUDIO_MILLISECONDS_MAX,
    TOKENS_MAX,
    find_implausible,
)


class Charge(msgspec.Struct, frozen=True):
    pricing: str
    usage: Usage | None = None
    cost_nano: int = 0
    price_id: str | None = None
    reason: str | None = None
    estimated: bool = False


FREE = Charge(pricing="free")
CACHED = Charge(pricing="free", usage=Usage())
"""Of an answer that came from a cache: nobody computed any token."""


def price_call(state: CallState, models: ModelCatalog, now: float) -> Charge:
    """Return the charge of a finished call at the prices of `now` (unix seconds)."""
    parsed = state.parsed_usage
    usage = parsed.usage
    estimated = False
    if state.call.endpoint.pricing is Pricing.FREE or not state.attempts:
        return CACHED if state.cache_status == "hit" else FREE
    if usage is None:
        found = _charge_without_usage(state)
        if isinstance(found, Charge):
            return found
        usage, estimated = found, state.was_cut or state.outcome != "completed"
    # Cheap comparisons first: the exact bounds need a look into the request.
    elif (
        usage.input_tokens > ((state.model and state.model.input_tokens_max) or TOKENS_MAX)
        or usage.output_tokens > ((state.model and state.model.output_tokens_max) or TOKENS_MAX)
        or usage.audio_milliseconds > AUDIO_MILLISECONDS_MAX
    ) and (reason := _find_implausible(state, usage)):
        return _charge_implausible(state, reason)
    model_id = parsed.model or state.call.model
    integration = state.credential.integration if state.credential else None
    price = models.price(parsed.model, now, integration) if parsed.model else None
    # The model that answered counts. The one that was asked for stands in for an unknown one.
    if price is None and state.call.model:
        asked = state.model.id if state.model else state.model_id or state.call.model
        price = models.price(asked, now, integration)
    if price is None:
        return _charge_unpriced(state, usage, f"no price for {model_id}")
    cost = price.cost(usage, parsed.service_tier)
    if cost is None:
        return _charge_partially(state, usage, price, estimated=estimated)
    # More than the hold cannot be charged, so such a usage is looked at again.
    hold = state.hold
    if hold and cost > hold.amount_nano and (reason := _find_implausible(state, usage)):
        return _charge_implausible(state, reason)
    return Charge("priced", usage, cost, price.id, estimated=estimated)


def _charge_without_usage(state: CallState) -> Charge | Usage:
    """Return the usage of an answer that reported none, by the request or an estimate; or the
    charge where that does not depend on usage."""
    if not state.was_sent or (
        state.outcome == "upstream_error" and not state.parsed_usage.output_bytes
    ):
        return FREE
    measured = measure_request(state)
    if state.outcome == "completed" and not state.was_cut:
        return measured or _charge_unpriced(state, None, "the provider reported no usage")
    if state.call.endpoint.pricing is Pricing.UNKNOWN:
        return _charge_unpriced(state, None, "the endpoint has no price")
    return measured or estimate_usage(state)


def _charge_partially(state: CallState, usage: Usage, price: Price, *, estimated: bool) -> Charge:
    """Return the charge where the price lacks a rate: without the tools whose fee is unknown; else
    by the request's own measure; else for the tokens at their highest rate."""
    tier = state.parsed_usage.service_tier
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
            return _charge_unpriced(state, None, "the provider reported no usage")
    bound = price.bound(usage.input_tokens, usage.output_tokens, None)
    return _charge_unpriced(state, usage, f"no rate for it in {price.id}", bound)


def _charge_unpriced(
    state: CallState, usage: Usage | None, reason: str, bound: int | None = None
) -> Charge:
    """Charge a managed call without a known price, never nothing: its tokens at the highest rates,
    or the hold where these are not known either."""
    held = state.hold.amount_nano if state.hold else 0
    cost = held if bound is None else min(bound, held)
    return Charge("unpriced", usage, cost, reason=reason, estimated=held > 0)


def _find_implausible(state: CallState, usage: Usage) -> str | None:
    is_managed = state.hold is not None and state.hold.managed
    # The body as it was sent, whose output limit may be the gateway's.
    return find_implausible(usage, state.model, state.body, is_managed=is_managed)


def _charge_implausible(state: CallState, reason: str) -> Charge:
    """Charge the hold for a usage that is impossible, and nothing more (decision 0019)."""
    held = state.hold.amount_nano if state.hold else 0
    return Charge("implausible", None, held, reason=reason, estimated=held > 0)


def measure_request(state: CallState) -> Usage | None:
    """Return the usage that the request alone determines, for endpoints billed by their input; or
    None."""
    field, body = state.call.endpoint.characters_of, state.call.body
    if field is None or not isinstance(body, JsonRequest):
        return None
    spoken = read_field(body.fields.get(field))
    return Usage(characters=len(spoken)) if isinstance(spoken, str) else None


def estimate_usage(state: CallState) -> Usage:
    """Estimate the usage of an answer that broke off, from the bytes sent and delivered, rounded
    up, and the calls of tools that were reported.

    Pictures, audio and files are estimated as what they are, and not as text.
    """
    parsed, body = state.parsed_usage, state.body
    if isinstance(body, JsonRequest) and state.body_bytes > SCANNED_BYTES_MIN:
        input_tokens = estimate_input_tokens(body.body, state.call.model)
    else:
        is_form = state.call.endpoint.body is Body.FORM
        per_token = AUDIO_BYTES_PER_TOKEN if is_form else BYTES_PER_TOKEN
        input_tokens = -(-state.body_bytes // per_token)
    return Usage(
        input_tokens=input_tokens,
        output_tokens=-(-parsed.output_bytes // BYTES_PER_TOKEN),
        tool_calls={name: len(seen) for name, seen in (parsed.tool_items or {}).items()},
    )
