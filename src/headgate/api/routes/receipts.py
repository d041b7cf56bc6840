"""The receipts of calls: what each cost, and why."""

from __future__ import annotations

from headgate.api.access import organization
from headgate.api.operation import Operations, RequestContext
from headgate.api.schemas.fields import Empty, to_timestamp
from headgate.api.schemas.receipts import (
    ReceiptDetailsResponse,
    ReceiptPage,
    ReceiptQuery,
    RecomputationPage,
    RecomputationQuery,
    to_filter,
    to_receipt_details_response,
    to_receipt_response,
    to_recomputation_page,
)
from headgate.kit.page_cursor import parse_page_cursor
from headgate.metering.model.receipt_filter import ReceiptFilter

OPERATIONS = Operations(
    "Receipts", "What each call used, at which price, and what it cost: line by line."
)
READ = organization("receipts:read")
READ_OWN = organization("receipts:read", own_key=True)


@OPERATIONS.get("/v1/receipts", access=READ_OWN, summary="List receipts")
@OPERATIONS.get("/api/receipts", access=READ, summary="List receipts")
async def list_receipts(context: RequestContext[ReceiptQuery, Empty]) -> ReceiptPage:
    """Return the receipts of the organization, newest first. Every call has one; a correction is a
    receipt of its own, whose `corrects` names the call. An inference key sees its own receipts. A
    page ends when it is full, or when 100,000 receipts were examined for its filters: pass
    `next_cursor` as `cursor` until there is none."""
    query = context.query
    filters = to_filter(
        query,
        context.organization_id,
        projects=() if context.own_key_id else context.principal.projects,
        own_key_id=context.own_key_id,
    )
    after = None if query.cursor is None else parse_page_cursor(query.cursor)
    if filters is None:
        return ReceiptPage([], None)
    page = await context.read(
        lambda connection: context.services.receipts.list(
            connection, filters, after=after, limit=query.limit
        )
    )
    responses = [to_receipt_response(receipt) for receipt in page.receipts]
    return ReceiptPage(responses, None if page.next is None else str(page.next))


@OPERATIONS.get("/api/receipts/recomputation", access=READ, summary="Recompute receipts")
async def recompute_receipts(
    context: RequestContext[RecomputationQuery, Empty],
) -> RecomputationPage:
    """Compute receipts anew from their recorded usage, at the price version that each names, oldest
    first, and return those that differ: none, unless somebody changed a receipt or a price. Nothing
    is written. Pass `next_cursor` as `cursor` until it is null. The command `headgate prices
    recompute` does this for the whole server."""
    context.principal.check_organization_wide()
    query = context.query
    filters = ReceiptFilter(
        organization_id=context.organization_id,
        since=to_timestamp(query.since),
        until=to_timestamp(query.until),
    )
    after = None if query.cursor is None else parse_page_cursor(query.cursor)
    some = await context.read(
        lambda connection: context.services.receipts.recompute(
            connection, filters, after=after, limit=query.limit
        )
    )
    return to_recomputation_page(some)


@OPERATIONS.get("/v1/receipts/{request_id}", access=READ_OWN, summary="Read a receipt")
@OPERATIONS.get("/api/receipts/{request_id}", access=READ, summary="Read a receipt")
async def get_receipt(context: RequestContext[Empty, Empty]) -> ReceiptDetailsResponse:
    """Return a receipt with its line items, the hold, the entries of the ledger and corrections. It
    is found by `x-headgate-request-id` of the answer; or by `x-request-id`, the caller's own
    `x-headgate-correlation-id`, or the id in the answer's body, among the newest 100,000 receipts.
    The cost is computed anew from the recorded usage: `recomputation` says whether it agrees."""
    visible = ReceiptFilter(
        organization_id=context.organization_id,
        projects=() if context.own_key_id else context.principal.projects,
        key_id=context.own_key_id,
    )
    details = await context.read(
        lambda connection: context.services.receipts.get(
            connection, visible, context.path["request_id"]
        )
    )
    return to_receipt_details_response(details)
