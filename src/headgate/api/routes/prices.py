"""The price book, for the operator of this installation."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from headgate.api.access import platform
from headgate.api.operation import Operations, RequestContext
from headgate.api.pages import PageQuery
from headgate.api.shapes import Empty, Timestamp, to_datetime
from headgate.catalog.model.price import (
    MICROSECONDS,
    NO_THRESHOLD,
    DollarRates,
    PriceEntry,
    format_rates,
)
from headgate.catalog.service.prices import PriceFilter, PriceRequest

OPERATIONS = Operations("Prices", "What models cost since when: rows that are never changed.")
READ = platform("platform:read")
WRITE = platform("platform:write")

Dollars = Annotated[
    str,
    Meta(
        pattern=r"^(0|[1-9][0-9]{0,5})(\.[0-9]{1,9})?$",
        description="Decimal dollars, exact to the nano-dollar.",
        examples=["2.5"],
    ),
]
Words = Annotated[str, Meta(min_length=1, max_length=200)]
ToolName = Annotated[str, Meta(pattern="^[a-z][a-z0-9_]{0,63}$")]


class PriceRates(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Dollars for a million tokens of each class, an image, a minute, a million characters, a call
    of a tool. What is left out is not priced; of nothing at all, the tier is not sold any more."""

    input: Dollars | None = None
    cached_input: Dollars | None = None
    cache_write: Dollars | None = None
    input_audio: Dollars | None = None
    input_image: Dollars | None = None
    output: Dollars | None = None
    reasoning: Dollars | None = None
    output_audio: Dollars | None = None
    output_image: Dollars | None = None
    per_image: Dollars | None = None
    per_minute: Dollars | None = None
    per_million_characters: Dollars | None = None
    per_request: Dollars | None = None
    tool_calls: Annotated[dict[ToolName, Dollars], Meta(max_length=64)] = {}


class PriceCreate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A new row. Without `effective_from` it is in force at once."""

    integration: Words
    model: Words
    rates: PriceRates
    tier: Annotated[str, Meta(pattern="^[a-z][a-z0-9_]{0,31}$")] = "default"
    above_input_tokens: Annotated[int, Meta(ge=1, le=1_000_000_000)] | None = None
    effective_from: Timestamp | None = None
    currency: Literal["USD"] = "USD"


class PriceQuery(PageQuery, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which rows."""

    integration: Words | None = None
    model: Words | None = None
    tier: Words | None = None
    source: Words | None = None
    history: bool = False


class PriceResponse(msgspec.Struct):
    """A row. `number` is that of a stored one; what was shipped has none."""

    integration: str
    model: str
    tier: str
    above_input_tokens: int | None
    effective_from: datetime.datetime
    state: str
    currency: str
    rates: PriceRates
    source: str
    number: int | None
    created_by: str | None
    created_at: datetime.datetime | None


class PricePage(msgspec.Struct):
    """By model, tier and threshold, the newest first."""

    prices: list[PriceResponse]
    total: int
    limit: int
    offset: int


@OPERATIONS.get("/api/platform/prices", access=READ, summary="List prices")
async def list_prices(context: RequestContext[PriceQuery, Empty]) -> PricePage:
    """Those in force and of the future; with `history=true` also those that are over."""
    query = context.query
    wanted = PriceFilter(
        integration=query.integration,
        model=query.model,
        tier=query.tier,
        source=query.source,
        history=query.history,
    )
    listed, total = await context.read(
        lambda connection: context.services.prices.list(
            connection, wanted, limit=query.limit, offset=query.offset
        )
    )
    shown = [to_price_response(each.entry, each.state.value) for each in listed]
    return PricePage(shown, total, query.limit, query.offset)


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
    """It wins over every shipped price of that tier and threshold from its time on. What was
    charged is not changed: a time that is over is refused, but for a model without any price."""
    now = context.services.clock.now()

    def add(connection: Any) -> PriceResponse:
        entry = context.services.prices.add(connection, read_price(context.body), by=context.actor)
        future = (
            entry.effective_from > now * MICROSECONDS and context.body.effective_from is not None
        )
        return to_price_response(entry, "future" if future else "in_force")

    return await context.create(add)


def read_price(body: PriceCreate) -> PriceRequest:
    """What the price book is asked to write."""
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


def to_price_response(entry: PriceEntry, state: str) -> PriceResponse:
    """A row as the API writes it."""
    return PriceResponse(
        integration=entry.integration,
        model=entry.model,
        tier=entry.tier,
        above_input_tokens=None if entry.above_input_tokens < 0 else entry.above_input_tokens,
        effective_from=to_datetime(entry.effective_from / MICROSECONDS),
        state=state,
        currency=entry.currency,
        rates=msgspec.convert(format_rates(entry.rates), PriceRates),
        source=entry.source,
        number=entry.number or None,
        created_by=entry.created_by or None,
        created_at=to_datetime(entry.created_at / MICROSECONDS) if entry.number else None,
    )
