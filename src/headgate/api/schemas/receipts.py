"""Receipts of calls as the platform API writes them."""

from __future__ import annotations

import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from headgate.api.schemas.fields import Timestamp, to_datetime, to_timestamp
from headgate.api.schemas.money import Dollars, show_dollars
from headgate.billing.model.receipts import (
    CallHold,
    ReceiptDetails,
    ReceiptEntry,
    find_corrected,
    find_wallet_debit,
)
from headgate.billing.model.recomputation import Basis
from headgate.billing.service.recomputation import CostDifference, RecomputedReceipts
from headgate.catalog.model.line_items import LineItem
from headgate.kit.money import nano_from_dollars
from headgate.llm.usage import Usage
from headgate.metering.model.receipt_filter import ReceiptFilter
from headgate.relay.ports import Receipt

Words = Annotated[str, Meta(min_length=1, max_length=200)]
Outcome = Literal[
    "completed", "upstream_error", "broken", "cancelled", "refused", "unknown", "corrected"
]
PricingStatus = Literal["priced", "free", "partial", "unpriced", "implausible"]
CacheStatus = Literal["bypass", "hit", "miss", "partial"]


class ReceiptQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Select receipts."""

    limit: Annotated[int, Meta(ge=1, le=500)] = 100
    cursor: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    since: Timestamp | None = None
    until: Timestamp | None = None
    key_id: Words | None = None
    project_id: Words | None = None
    credential_id: Words | None = None
    model: Words | None = None
    provider: Words | None = None
    endpoint: Words | None = None
    outcome: Outcome | None = None
    pricing: PricingStatus | None = None
    status: Annotated[int, Meta(ge=0, le=999)] | None = None
    managed: bool | None = None
    streamed: bool | None = None
    cache_status: CacheStatus | None = None
    cost_min: Dollars | None = None
    cost_max: Dollars | None = None
    metadata: Annotated[str, Meta(pattern=r"^[^:]{1,64}:", max_length=600)] | None = None
    correlation_id: Words | None = None
    upstream_request_id: Words | None = None
    response_id: Words | None = None


class ReceiptUsage(msgspec.Struct, frozen=True, kw_only=True):
    """What the provider reported, as it is priced. Totals include their details."""

    input_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    input_audio_tokens: int
    input_image_tokens: int
    output_tokens: int
    reasoning_tokens: int
    output_audio_tokens: int
    output_image_tokens: int
    accepted_prediction_tokens: int
    rejected_prediction_tokens: int
    audio_milliseconds: int
    characters: int
    images: int
    tool_calls: dict[str, int]


class ReceiptResponse(msgspec.Struct, kw_only=True):
    """The receipt of a call: who, what, usage, price, cost, outcome. Amounts are decimal US
    dollars."""

    request_id: str
    created_at: datetime.datetime
    corrects: str | None
    project_id: str
    key_id: str
    credential_id: str | None
    managed: bool
    endpoint: str
    method: str
    provider: str
    model: str | None
    model_served: str | None
    response_id: str | None
    upstream_request_id: str | None
    correlation_id: str | None
    metadata: dict[str, str]
    status: int
    outcome: str
    error_code: str | None
    streamed: bool
    attempts: int
    cache_status: str
    service_tier: str | None
    usage: ReceiptUsage | None
    estimated: bool
    pricing: str
    unpriced_reason: str | None
    price_id: str | None
    currency: str
    cost: str
    wallet_debit: str
    credits: str
    first_byte_ms: float | None
    upstream_ms: float | None
    total_ms: float | None
    overhead_ms: float | None


class ReceiptPage(msgspec.Struct):
    """A page of receipts, newest first. With a `next_cursor` there may be more, also after an empty
    page."""

    receipts: list[ReceiptResponse]
    next_cursor: str | None


class ReceiptLineItem(msgspec.Struct):
    """One priced part of a call: `quantity` of `unit`, at `rate` US dollars for `per` units. A part
    without a price has no rate and costs nothing."""

    name: str
    unit: str
    quantity: int
    rate: str | None
    per: int
    amount: str


class ReceiptRecomputation(msgspec.Struct):
    """What the receipt must cost by its usage and the price version that it names."""

    matches: bool
    basis: Basis
    cost: str | None
    problem: str | None
    tier: str | None
    above_input_tokens: int | None


class ReceiptHold(msgspec.Struct):
    """What was set aside for the call before it was sent. A call on an own credential is held for
    its budgets only."""

    amount: str
    released: str
    state: str
    managed: bool
    month: str
    created_at: datetime.datetime


class ReceiptEntryResponse(msgspec.Struct):
    """An entry of the ledger that belongs to the call."""

    id: str
    transaction_id: str
    account: str
    amount: str
    created_at: datetime.datetime


class ReceiptCorrection(msgspec.Struct):
    """A later receipt that changes what the call costs."""

    request_id: str
    created_at: datetime.datetime
    cost: str


class ReceiptDetailsResponse(ReceiptResponse, kw_only=True):
    """A receipt with everything that explains its amount. `line_items` and `rounding` add up to
    `cost`; with the corrections it is `total_cost`."""

    line_items: list[ReceiptLineItem]
    rounding: str
    recomputation: ReceiptRecomputation
    hold: ReceiptHold | None
    entries: list[ReceiptEntryResponse]
    corrections: list[ReceiptCorrection]
    total_cost: str


class RecomputationQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Select receipts to recompute."""

    limit: Annotated[int, Meta(ge=1, le=5_000)] = 1_000
    cursor: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    since: Timestamp | None = None
    until: Timestamp | None = None


class ReceiptDifference(msgspec.Struct):
    """A receipt whose cost does not follow from its recorded usage."""

    request_id: str
    created_at: datetime.datetime
    basis: Basis
    price_id: str | None
    cost: str
    recomputed_cost: str | None
    problem: str | None


class RecomputationPage(msgspec.Struct):
    """The result of recomputing some receipts, oldest first."""

    receipts: int
    differences: list[ReceiptDifference]
    next_cursor: str | None


def to_recomputation_page(some: RecomputedReceipts) -> RecomputationPage:
    return RecomputationPage(
        len(some.recomputed),
        [_to_difference(each) for each in some.list_differences()],
        None if some.next is None else str(some.next),
    )


def _to_difference(difference: CostDifference) -> ReceiptDifference:
    recomputed = difference.recomputed_nano
    return ReceiptDifference(
        request_id=difference.request_id,
        created_at=to_datetime(difference.created_at),
        basis=difference.basis,
        price_id=difference.price_id,
        cost=show_dollars(difference.cost_nano),
        recomputed_cost=None if recomputed is None else show_dollars(recomputed),
        problem=difference.problem,
    )


def to_filter(
    query: ReceiptQuery, organization_id: str, *, projects: tuple[str, ...], own_key_id: str | None
) -> ReceiptFilter | None:
    """Return what the query selects of what the reader may see; None for nothing."""
    if own_key_id is not None and query.key_id not in (None, own_key_id):
        return None
    key, colon, value = (query.metadata or "").partition(":")
    return ReceiptFilter(
        organization_id=organization_id,
        since=to_timestamp(query.since),
        until=to_timestamp(query.until),
        projects=projects,
        key_id=own_key_id or query.key_id,
        cost_min_nano=None if query.cost_min is None else nano_from_dollars(query.cost_min),
        cost_max_nano=None if query.cost_max is None else nano_from_dollars(query.cost_max),
        metadata=(key, value) if colon else None,
        project_id=query.project_id,
        credential_id=query.credential_id,
        provider=query.provider,
        model=query.model,
        endpoint=query.endpoint,
        outcome=query.outcome,
        pricing=query.pricing,
        status=query.status,
        managed=query.managed,
        streamed=query.streamed,
        cache_status=query.cache_status,
        correlation_id=query.correlation_id,
        upstream_request_id=query.upstream_request_id,
        response_id=query.response_id,
    )


def to_receipt_response(receipt: Receipt) -> ReceiptResponse:
    return ReceiptResponse(
        request_id=receipt.request_id,
        created_at=to_datetime(receipt.created_at),
        corrects=find_corrected(receipt),
        project_id=receipt.project_id,
        key_id=receipt.key_id,
        credential_id=receipt.credential_id,
        managed=receipt.managed,
        endpoint=receipt.endpoint,
        method=receipt.method,
        provider=receipt.provider,
        model=receipt.model_requested,
        model_served=receipt.model_served,
        response_id=receipt.answer_id,
        upstream_request_id=receipt.upstream_request_id,
        correlation_id=receipt.correlation_id,
        metadata=msgspec.json.decode(receipt.metadata or "{}", type=dict[str, str]),
        status=receipt.status,
        outcome=receipt.outcome,
        error_code=receipt.error_code,
        streamed=receipt.streamed,
        attempts=receipt.attempts,
        cache_status=receipt.cache_status,
        service_tier=receipt.service_tier,
        usage=None if receipt.usage is None else _to_usage(receipt.usage),
        estimated=receipt.estimated,
        pricing=receipt.pricing,
        unpriced_reason=receipt.unpriced_reason,
        price_id=receipt.price_id,
        currency="usd",
        cost=show_dollars(receipt.cost_nano),
        wallet_debit=show_dollars(find_wallet_debit(receipt)),
        credits=show_dollars(receipt.credit_nano),
        first_byte_ms=_to_milliseconds(receipt.first_byte_microseconds),
        upstream_ms=_to_milliseconds(receipt.upstream_microseconds),
        total_ms=_to_milliseconds(receipt.total_microseconds),
        overhead_ms=_to_milliseconds(receipt.overhead_microseconds),
    )


def to_receipt_details_response(details: ReceiptDetails) -> ReceiptDetailsResponse:
    receipt, found = details.receipt, details.recomputation
    itemization = found.itemization
    items = () if itemization is None else itemization.items
    above = -1 if itemization is None else itemization.above_input_tokens
    return ReceiptDetailsResponse(
        **msgspec.structs.asdict(to_receipt_response(receipt)),
        line_items=[_to_line_item(item) for item in items],
        rounding=show_dollars(0 if itemization is None else itemization.rounding_nano),
        recomputation=ReceiptRecomputation(
            matches=found.matches(receipt),
            basis=found.basis,
            cost=None if itemization is None else show_dollars(itemization.cost_nano),
            problem=found.problem,
            tier=None if itemization is None else itemization.tier,
            above_input_tokens=None if above < 0 else above,
        ),
        hold=None if details.hold is None else _to_hold(details.hold, receipt),
        entries=[_to_entry(entry) for entry in details.entries],
        corrections=[
            ReceiptCorrection(
                each.request_id, to_datetime(each.created_at), show_dollars(each.cost_nano)
            )
            for each in details.corrections
        ],
        total_cost=show_dollars(details.total_nano),
    )


def _to_usage(usage: Usage) -> ReceiptUsage:
    return ReceiptUsage(**msgspec.structs.asdict(usage))


def _to_line_item(item: LineItem) -> ReceiptLineItem:
    rate = None if item.rate_nano is None else show_dollars(item.rate_nano)
    amount = show_dollars(item.amount_nano)
    return ReceiptLineItem(item.name, item.unit, item.quantity, rate, item.per, amount)


def _to_hold(hold: CallHold, receipt: Receipt) -> ReceiptHold:
    return ReceiptHold(
        amount=show_dollars(hold.amount_nano),
        released=show_dollars(hold.find_released(receipt.cost_nano)),
        state=hold.state,
        managed=hold.managed,
        month=hold.month,
        created_at=to_datetime(hold.created_at),
    )


def _to_entry(entry: ReceiptEntry) -> ReceiptEntryResponse:
    return ReceiptEntryResponse(
        id=str(entry.number),
        transaction_id=entry.transaction_id,
        account=entry.account_id.partition(":")[2],
        amount=show_dollars(entry.amount_nano),
        created_at=to_datetime(entry.created_at),
    )


def _to_milliseconds(microseconds: int) -> float | None:
    return None if microseconds < 0 else microseconds / 1000
