"""Sets money aside for a managed call, before anything is sent (law 2)."""

from __future__ import annotations

from headgate.kit.clock import Clock
from headgate.kit.errors import HeadgateError, Kind
from headgate.llm.endpoint import Pricing
from headgate.llm.request import JsonRequest
from headgate.relay.ports import Hold, Models, Wallet
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
)
"""Parts whose tokens are not bounded by their bytes: images by address, files, searches."""


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
        await self._wallet.hold(hold)
        trip.hold = hold

    def _bound(self, trip: Trip) -> int | None:
        """The worst case in nano-dollars; None where there is none to be known."""
        model, body = trip.model, trip.body
        if model is None or not isinstance(body, JsonRequest) or not model.input_tokens_max:
            return None
        price = self._models.price(model.id, self._clock.now())
        if price is None:
            return None
        input_tokens = model.input_tokens_max
        if not is_boundless(body):
            input_tokens = min(input_tokens, len(body.body))
        tier = body.service_tier
        return price.bound(input_tokens, max(1, body.n or 1) * model.output_tokens_max, tier)


def is_boundless(body: JsonRequest) -> bool:
    """Whether the input may be larger than the body that asks for it."""
    return any(name in body.fields for name in BOUNDLESS_FIELDS) or any(
        mark in body.body for mark in BOUNDLESS_MARKS
    )
