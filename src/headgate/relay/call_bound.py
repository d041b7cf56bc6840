"""Bound what a call can cost, as a function of its output limit."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import msgspec

from headgate.llm.endpoint import Pricing
from headgate.llm.request import JsonRequest, read_output_limits
from headgate.relay.call_state import CallState
from headgate.relay.media_bounds import MEASURED_MEDIA, bound_media
from headgate.relay.ports import Model, ModelCatalog, Price
from headgate.relay.pricing import measure_request
from headgate.relay.usage_bounds import (
    bound_tool_fees,
    count_answers,
    has_several_inputs,
    has_unbounded_input,
)

AMOUNT_NANO_MAX = 2**62
"""More than any wallet has, and less than the largest integer of the database."""
LIMIT_FIELDS_MAX = 256
"""Combinations that are cached: far more than there are endpoints and fields."""


class CallBound(msgspec.Struct, frozen=True):
    """Hold what the cost of a call depends on.

    `limit` is the most output tokens of one answer that the request allows, and `ceiling` the most
    that its model has. `stated` are the limits of the request by field, `limit_fields` the fields
    that could state one. `extra_output` counts output tokens that no limit bounds.
    """

    price: Price
    input_tokens: int = 0
    answers: int = 1
    extra_output: int = 0
    other_nano: int = 0
    """What does not depend on tokens: fees of tools, images, minutes, characters."""
    limit: int = 0
    ceiling: int = 0
    stated: Mapping[str, int] = {}
    limit_fields: tuple[str, ...] = ()
    service_tier: str | None = None

    def cost(self, limit: int) -> int | None:
        """Return the most that the call can cost in nano-dollars with this output limit; None if
        its price lacks a rate."""
        output_tokens = self.answers * limit + self.extra_output
        tokens = 0
        if self.input_tokens or output_tokens:
            bound = self.price.bound(self.input_tokens, output_tokens, self.service_tier)
            if bound is None:
                return None
            tokens = bound
        return min(tokens + self.other_nano, AMOUNT_NANO_MAX)

    def find_limit(self, amount_nano: int) -> int:
        """Return the largest output limit, at most `limit`, with which the call costs at most this
        amount; -1 if it costs more without any output."""
        low, high = -1, self.limit
        while low < high:
            middle = (low + high + 1) // 2
            cost = self.cost(middle)
            if cost is not None and cost <= amount_nano:
                low = middle
            else:
                high = middle - 1
        return low

    @property
    def has_invalid_limit(self) -> bool:
        """Return whether a stated limit is no positive number, which some servers take for no
        limit and others reject."""
        return bool(self.stated) and min(self.stated.values()) <= 0

    @property
    def has_excess_limit(self) -> bool:
        """Return whether a stated limit is larger than what is held for."""
        return bool(self.stated) and max(self.stated.values()) > self.limit

    @property
    def can_fit(self) -> bool:
        """Return whether an output limit makes the call cost less."""
        return bool(self.limit_fields) and not self.extra_output and not self.has_invalid_limit


def bound_call(
    state: CallState, models: ModelCatalog, now: float, tool_calls_assumed: int
) -> CallBound | None:
    """Return the bound of a call after routing; None if nothing bounds its cost."""
    model = state.model
    if model is None or state.call.endpoint.pricing is not Pricing.USAGE:
        return None
    price = models.price(model.id, now, model.integration)
    if price is None:
        return None
    body = state.body
    endpoint = state.call.endpoint
    if endpoint.characters_of is not None and isinstance(body, JsonRequest):
        measured = measure_request(state)
        if measured is not None:
            cost = price.cost(measured, body.service_tier)
            if cost is not None:
                return CallBound(price, other_nano=cost)
    if endpoint.measure in MEASURED_MEDIA:
        media = bound_media(state.call, price)
        if media is not None:
            return CallBound(price, media.input_tokens, 1, media.output_tokens, media.cost_nano)
    if not isinstance(body, JsonRequest):
        return _bound_form(price, model)
    return _bound_tokens(state, body, model, price, tool_calls_assumed)


def _bound_form(price: Price, model: Model) -> CallBound | None:
    """Bound a form by the limits of its model, since a file says nothing about its tokens."""
    if not model.input_tokens_max:
        return None
    ceiling = model.output_tokens_max or model.input_tokens_max
    bound = CallBound(price, model.input_tokens_max, limit=ceiling, ceiling=ceiling)
    return None if bound.cost(ceiling) is None else bound


def _bound_tokens(
    state: CallState, body: JsonRequest, model: Model, price: Price, tool_calls_assumed: int
) -> CallBound | None:
    fields = body.fields
    is_unbounded = has_unbounded_input(body, fields)
    input_tokens = model.input_tokens_max or len(body.body)
    if not is_unbounded:
        input_tokens = min(input_tokens, len(body.body))
    elif not model.input_tokens_max:
        return None
    if ("input" in fields or "prompt" in fields) and has_several_inputs(fields):
        input_tokens = max(input_tokens, len(body.body))
    endpoint = state.call.endpoint if state.conversion is None else state.conversion.endpoint
    names = choose_limit_fields(endpoint.output_limits, model.limit_field)
    stated = read_output_limits(fields, names)
    ceiling = model.output_tokens_max or model.input_tokens_max
    is_valid = bool(stated) and min(stated.values()) > 0
    if not ceiling and not is_valid:
        return None
    limit = ceiling
    if is_valid:
        limit = min(max(stated.values()), ceiling) if ceiling else max(stated.values())
    answers = count_answers(body, fields)
    prediction = bytes(fields["prediction"]) if "prediction" in fields else b"null"
    bound = CallBound(
        price,
        input_tokens,
        answers,
        # Tokens of a prediction that the answer does not use are billed as output, too.
        answers * len(prediction) if prediction != b"null" else 0,
        bound_tool_fees(fields, price.tool_fees, tool_calls_assumed),
        limit,
        ceiling or limit,
        stated,
        names,
        body.service_tier,
    )
    return None if bound.cost(limit) is None else bound


@functools.lru_cache(maxsize=LIMIT_FIELDS_MAX)
def choose_limit_fields(names: tuple[str, ...], preferred: str | None) -> tuple[str, ...]:
    """Return the fields of an endpoint that limit the output, first the one to add."""
    if preferred in names:
        return (preferred, *(name for name in names if name != preferred))
    return names
