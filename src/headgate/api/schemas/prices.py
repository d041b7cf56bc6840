"""Prices as the platform API reads and writes them."""

from __future__ import annotations

import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from headgate.api.schemas.fields import Timestamp, build_response, to_datetime
from headgate.api.schemas.pages import Page, PageQuery
from headgate.catalog.model.price import (
    MICROSECONDS,
    PriceEntry,
    format_rates,
)

Dollars = Annotated[
    str,
    Meta(
        pattern=r"^(0|[1-9][0-9]{0,5})(\.[0-9]{1,9})?$",
        description="Decimal US dollars with up to 9 decimal places.",
        examples=["2.5"],
    ),
]


Words = Annotated[str, Meta(min_length=1, max_length=200)]


ToolName = Annotated[str, Meta(pattern="^[a-z][a-z0-9_]{0,63}$")]


class PriceRates(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Decimal US dollars per million tokens of each class, per image, per minute, per million
    characters, per request, or per tool call. A class that is missing has no price. Without any
    class, the tier is no longer sold."""

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
    """A new price. Without `effective_from` it is in force at once."""

    integration: Words
    model: Words
    rates: PriceRates
    tier: Annotated[str, Meta(pattern="^[a-z][a-z0-9_]{0,31}$")] = "default"
    above_input_tokens: Annotated[int, Meta(ge=1, le=1_000_000_000)] | None = None
    effective_from: Timestamp | None = None
    currency: Literal["USD"] = "USD"


class PriceQuery(PageQuery, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Select prices."""

    integration: Words | None = None
    model: Words | None = None
    tier: Words | None = None
    source: Words | None = None
    history: bool = False


class PriceResponse(msgspec.Struct):
    """A price. `number` is set for prices that were added on this server, and null for shipped
    ones."""

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


class PricePage(Page):
    """A page of prices by model, tier and threshold, newest first."""

    prices: list[PriceResponse]


def to_price_response(entry: PriceEntry, state: str) -> PriceResponse:
    return build_response(
        PriceResponse,
        entry,
        above_input_tokens=None if entry.above_input_tokens < 0 else entry.above_input_tokens,
        effective_from=to_datetime(entry.effective_from / MICROSECONDS),
        state=state,
        rates=msgspec.convert(format_rates(entry.rates), PriceRates),
        number=entry.number or None,
        created_by=entry.created_by or None,
        created_at=to_datetime(entry.created_at / MICROSECONDS) if entry.number else None,
    )
