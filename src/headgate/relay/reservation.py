"""Hold money for a managed call before anything is sent (law 2)."""

from __future__ import annotations

import asyncio

from headgate.kit.clock import Clock
from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.http.message import Timeouts
from headgate.llm.endpoint import Pricing
from headgate.llm.request import JsonRequest
from headgate.relay.call_state import CallState
from headgate.relay.deadlines import merge_timeouts
from headgate.relay.ports import Hold, ModelCatalog, Wallet
from headgate.relay.pricing import measure_request
from headgate.relay.usage_bounds import (
    bound_output,
    bound_tool_fees,
    count_answers,
    has_several_inputs,
    has_unbounded_input,
)

AMOUNT_NANO_MAX = 2**62
"""More than any wallet has, and less than the largest integer of the database."""
SETTLING_SECONDS_MAX = 300
"""How long a lease lasts beyond the total deadline of its call: for slow clients and databases."""


class UnpricedModelError(HeadgateError):
    """The model has no price that bounds its cost, so it cannot be paid in credits.

    Use an own credential, or a model of the catalog.
    """

    kind = Kind.INVALID
    code = "model_unpriced"


class Reservation:
    """Hold the most that a managed call can cost; calls with an own credential hold nothing.

    `tool_calls_assumed` is the number of tool calls to hold for if the request sets no maximum.
    `timeouts` apply where neither model nor credential set any; a hold outlasts them.
    """

    def __init__(
        self,
        wallet: Wallet,
        models: ModelCatalog,
        clock: Clock,
        *,
        timeouts: Timeouts,
        tool_calls_assumed: int = 10,
    ) -> None:
        self._wallet = wallet
        self._models = models
        self._clock = clock
        self._timeouts = timeouts
        self._tool_calls_assumed = tool_calls_assumed

    async def hold(self, state: CallState) -> None:
        """Hold the money, or raise: UnpricedModelError (fail closed) or InsufficientFundsError."""
        credential, call = state.credential, state.call
        if credential is None or not credential.managed or call.endpoint.pricing is Pricing.FREE:
            return
        amount = self._bound(state)
        if amount is None:
            raise UnpricedModelError(
                f"`{call.model or call.endpoint.name}` has no price that bounds its cost, so it "
                "cannot be paid in credits. Use an own credential, or a model of the catalog.",
                param="model",
                should_retry=False,
            )
        model = state.model
        timeouts = merge_timeouts(self._timeouts, model and model.deadlines, credential.deadlines)
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
            lease_seconds=timeouts.total_seconds + SETTLING_SECONDS_MAX,
        )
        try:
            state.hold = await self._wallet.hold(hold)
        except asyncio.CancelledError:
            # The server stops. The hold is queued already, and the receipt that is queued behind it
            # releases it.
            state.hold = hold
            raise

    def _bound(self, state: CallState) -> int | None:
        """Return the highest possible cost in nano-dollars; None if it has no bound."""
        model, body = state.model, state.body
        if model is None or not isinstance(body, JsonRequest):
            return None
        price = self._models.price(model.id, self._clock.now(), model.integration)
        if price is None:
            return None
        measured = measure_request(state)
        if measured is not None and (cost := price.cost(measured, body.service_tier)) is not None:
            return cost
        if not model.input_tokens_max:
            return None
        fields = body.fields
        input_tokens = model.input_tokens_max
        if not has_unbounded_input(body):
            input_tokens = min(input_tokens, len(body.body))
        if has_several_inputs(fields):
            input_tokens = max(input_tokens, len(body.body))
        output_tokens = count_answers(body, fields) * bound_output(body, model)
        tokens = price.bound(input_tokens, output_tokens, body.service_tier)
        if tokens is None:
            return None
        tools = bound_tool_fees(fields, price.tool_fees, self._tool_calls_assumed)
        return min(tokens + tools, AMOUNT_NANO_MAX)
