"""Sets money aside for a managed call, before anything is sent (law 2)."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import msgspec

from headgate.kit.clock import Clock
from headgate.kit.errors import HeadgateError, Kind
from headgate.llm.endpoint import Pricing
from headgate.llm.request import JsonRequest
from headgate.relay.ports import Hold, Model, Models, Wallet
from headgate.relay.trip import Trip

BOUNDLESS_FIELDS = ("previous_response_id", "conversation", "prompt", "file_ids")
"""Fields that bring input from elsewhere, so that the body's size bounds nothing."""
BOUNDLESS_MARKS = (
    b'"image',
    b'"input_image',
    b'"input_file',
    b'"file',
    b'"input_audio',
    b"_search",
    b'"mcp"',
    b'"code_interpreter"',
)
"""Parts whose tokens are not bounded by their bytes: images by address, files, hosted tools."""


class ModelUnpriced(HeadgateError):
    kind = Kind.INVALID
    code = "model_unpriced"


class Holding:
    """Holds the most that a managed call can cost; a call on an own key holds nothing."""

    def __init__(self, wallet: Wallet, models: Models, clock: Clock) -> None:
        self._wallet = wallet
        self._models = models
        self._clock = clock

    async def hold(self, trip: Trip) -> None:
        """Reserve, or raise: no price (fail closed), or not enough money."""
        credential, call = trip.credential, trip.call
        if credential is None or not credential.managed or call.endpoint.pricing is Pricing.FREE:
            return
        amount = self._bound(trip)
        if amount is None:
            raise ModelUnpriced(
                f"`{call.model or call.endpoint.name}` has no price that bounds its cost, so it "
                "cannot be paid in credits. Use an own credential, or a model of the catalog.",
                param="model",
                should_retry=False,
            )
        hold = Hold(
            request_id=call.request_id,
            organization_id=call.grant.organization_id,
            amount_nano=amount,
            project_id=call.grant.project_id,
            key_id=call.grant.key_id,
            credential_id=credential.id,
            endpoint=call.endpoint.name,
            method=call.method,
            provider=credential.integration,
            model=call.model,
        )
        try:
            await self._wallet.hold(hold)
        except asyncio.CancelledError:
            # The server stops. The hold is queued already; the receipt, queued behind it, ends it.
            trip.hold = hold
            raise
        trip.hold = hold

    def _bound(self, trip: Trip) -> int | None:
        """The worst case in nano-dollars; None where there is none to be known."""
        model, body = trip.model, trip.body
        if model is None or not isinstance(body, JsonRequest) or not model.input_tokens_max:
            return None
        price = self._models.price(model.id, self._clock.now(), model.integration)
        if price is None:
            return None
        fields = body.fields
        input_tokens = model.input_tokens_max
        if not is_boundless(body):
            input_tokens = min(input_tokens, len(body.body))
        if has_several_inputs(fields):
            input_tokens = max(input_tokens, len(body.body))
        output_tokens = count_answers(body, fields) * bound_output(body, model)
        return price.bound(input_tokens, output_tokens, body.service_tier)


def bound_output(body: JsonRequest, model: Model) -> int:
    """The tokens that one answer can have: by the request, the model, or the model's window."""
    ceiling = model.output_tokens_max or model.input_tokens_max
    asked = body.output_tokens_max
    return ceiling if asked is None or asked < 0 else min(asked, ceiling)


def count_answers(body: JsonRequest, fields: dict[str, msgspec.Raw]) -> int:
    """How many answers are written and paid for, also those that only compete for being sent."""
    best_of = _decode_leniently(fields.get("best_of"))
    wanted = max(1, body.n or 1, best_of if isinstance(best_of, int) else 1)
    prompts = _decode_leniently(fields.get("prompt"))
    return wanted * (max(1, len(cast("list[Any]", prompts))) if isinstance(prompts, list) else 1)


def has_several_inputs(fields: dict[str, msgspec.Raw]) -> bool:
    """Whether there are texts or tokens in a list, of which each may fill a model's window."""
    for name in ("input", "prompt"):
        value = _decode_leniently(fields.get(name))
        if isinstance(value, list) and not all(
            isinstance(each, dict) for each in cast("list[Any]", value)
        ):
            return True
    return False


def _decode_leniently(raw: msgspec.Raw | None) -> object:
    """The value of a field that is the provider's to judge; None where it cannot be read."""
    try:
        return None if raw is None else msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def is_boundless(body: JsonRequest) -> bool:
    """Whether the input may be larger than the body that asks for it."""
    return any(name in body.fields for name in BOUNDLESS_FIELDS) or any(
        mark in body.body for mark in BOUNDLESS_MARKS
    )
