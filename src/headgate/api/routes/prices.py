"""The prices of models, for the operator of the server."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from headgate.api.access import platform
from headgate.api.operation import Operations, RequestContext
from headgate.api.schemas.fields import Empty
from headgate.api.schemas.prices import (
    PriceCreate,
    PricePage,
    PriceQuery,
    PriceResponse,
    to_price_response,
)
from headgate.catalog.model.price import (
    MICROSECONDS,
    NO_THRESHOLD,
    DollarRates,
)
from headgate.catalog.service.prices import PriceFilter, PriceRequest

OPERATIONS = Operations(
    "Prices", "What calls to models cost and from when on. Prices are added and never edited."
)
READ = platform("platform:read")
WRITE = platform("platform:write")


@OPERATIONS.get("/api/platform/prices", access=READ, summary="List prices")
async def list_prices(context: RequestContext[PriceQuery, Empty]) -> PricePage:
    """Return the prices that are in force or start in the future. With `history=true` the answer
    has past prices, too."""
    query = context.query
    filters = PriceFilter(
        integration=query.integration,
        model=query.model,
        tier=query.tier,
        source=query.source,
        history=query.history,
    )
    listed, total = await context.read(
        lambda connection: context.services.prices.list(
            connection, filters, limit=query.limit, offset=query.offset
        )
    )
    responses = [to_price_response(each.entry, each.state.value) for each in listed]
    return PricePage(responses, **query.position(total))


@OPERATIONS.post(
    "/api/platform/prices",
    access=WRITE,
    status=201,
    summary="Set a price",
    example={
        "integration": "openai",
        "model": "gpt-5.4",
        "rates": {"input": "2.25", "cached_input": "0.225", "output": "13.5"},
    },
)
async def create_price(context: RequestContext[Empty, PriceCreate]) -> PriceResponse:
    """Add a price that takes precedence over the shipped prices of the same model, tier and
    threshold from `effective_from` on. Past charges do not change: a time in the past is
    rejected unless the model has no price yet."""
    now = context.services.clock.now()

    def add(connection: Any) -> PriceResponse:
        entry = context.services.prices.add(connection, read_price(context.body), by=context.actor)
        future = (
            entry.effective_from > now * MICROSECONDS and context.body.effective_from is not None
        )
        return to_price_response(entry, "future" if future else "in_force")

    return await context.create(add)


def read_price(body: PriceCreate) -> PriceRequest:
    said = msgspec.to_builtins(body.rates)
    tools = {name: Decimal(rate) for name, rate in said.pop("tool_calls", {}).items()}
    rates: dict[str, Any] = {name: Decimal(rate) for name, rate in said.items()}
    threshold = body.above_input_tokens
    return PriceRequest(
        integration=body.integration,
        model=body.model,
        rates=DollarRates(**rates, tool_calls=tools),
        tier=body.tier,
        above_input_tokens=NO_THRESHOLD if threshold is None else threshold,
        effective_from=body.effective_from,
        currency=body.currency,
    )
