"""The wallet of an organization: balance, changes, payments, settings."""

from __future__ import annotations

import sqlalchemy as sa

from headgate.api.access import ANYONE, organization, platform
from headgate.api.operation import Operations, RequestContext
from headgate.api.schemas.fields import Empty, RawBody
from headgate.api.schemas.wallet import (
    AdjustmentCreate,
    AdjustmentResponse,
    AutoTopUpResponse,
    AutoTopUpSet,
    CheckoutLinkCreate,
    EntryQuery,
    IdCursorQuery,
    LinkResponse,
    PaymentNoticeResponse,
    PaymentPage,
    PaymentResponse,
    RefundCreate,
    TopUpCreate,
    WalletEntryPage,
    WalletResponse,
    WalletUpdate,
    to_auto_top_up_request,
    to_auto_top_up_response,
    to_dollars,
    to_entry_response,
    to_nano,
    to_payment_response,
    to_wallet_response,
)
from headgate.api.services import Services
from headgate.billing.service import wallet as billing
from headgate.payments.service.adjustments import Adjustment
from headgate.payments.service.checkout import TopUp
from headgate.payments.service.orders import get_order, list_orders
from headgate.payments.service.settings import BillingAddress, read_settings

OPERATIONS = Operations(
    "Wallet", "The prepaid wallet that pays for managed calls, and payments into it."
)
READ = organization("wallet:read")
WRITE = organization("wallet:write")
AUTO_TOP_UP = {"enabled": False, "threshold": "10", "amount": "50", "monthly_maximum": "500"}


@OPERATIONS.both("GET", "/wallet", access=READ, summary="Read the wallet")
async def get_wallet(context: RequestContext[Empty, Empty]) -> WalletResponse:
    """Return what can be spent now, what is held for open calls, what is owed, the credits of the
    plan, and what invoices say of the organization."""
    context.principal.check_organization_wide()
    return await context.read(
        lambda connection: _read(context.services, connection, context.organization_id)
    )


@OPERATIONS.patch(
    "/api/wallet",
    access=WRITE,
    summary="Change the wallet's settings",
    example={
        "billing": {"name": "Acme Inc.", "address": "1 Main Street\nSpringfield", "tax_id": ""}
    },
)
async def update_wallet(context: RequestContext[Empty, WalletUpdate]) -> WalletResponse:
    """Set what invoices say of the organization from now on: name, postal address and tax id."""
    context.principal.check_organization_wide()
    billed = context.body.billing
    address = BillingAddress(billed.name, billed.address, billed.tax_id)

    def change(connection: sa.Connection) -> WalletResponse:
        organization_id = context.organization_id
        context.check_version(read_settings(connection, organization_id))
        service = context.services.wallet_settings
        service.change(connection, organization_id, address, by=context.actor)
        return _read(context.services, connection, organization_id)

    return await context.write(change)


@OPERATIONS.both(
    "GET",
    "/wallet/entries",
    access=READ,
    summary="List changes of the wallet",
)
async def list_wallet_entries(context: RequestContext[EntryQuery, Empty]) -> WalletEntryPage:
    """Return every change of the wallet, newest first: holds and settlements of calls with their
    request, payments, refunds, grants and adjustments with their reference. `next_cursor` is the
    cursor of the next page."""
    context.principal.check_organization_wide()
    query = context.query
    before = None if query.cursor is None else int(query.cursor)
    entries = await context.read(
        lambda connection: billing.list_wallet_entries(
            connection, context.organization_id, before=before, limit=query.limit
        )
    )
    responses = [to_entry_response(each) for each in entries]
    more = responses[-1].id if len(responses) == query.limit else None
    return WalletEntryPage(responses, more)


@OPERATIONS.both("GET", "/wallet/top-ups", access=READ, summary="List payments")
async def list_top_ups(context: RequestContext[IdCursorQuery, Empty]) -> PaymentPage:
    """Return the payments of the organization, newest first."""
    context.principal.check_organization_wide()
    query = context.query
    found = await context.read(
        lambda connection: list_orders(
            connection, context.organization_id, before=query.cursor, limit=query.limit
        )
    )
    responses = [to_payment_response(each) for each in found]
    return PaymentPage(responses, responses[-1].id if len(responses) == query.limit else None)


@OPERATIONS.both(
    "GET",
    "/wallet/top-ups/{payment_id}",
    access=READ,
    summary="Read a payment",
)
async def get_top_up(context: RequestContext[Empty, Empty]) -> PaymentResponse:
    """Return a payment. Its status is `paid` once the wallet is credited."""
    context.principal.check_organization_wide()
    return to_payment_response(
        await context.read(
            lambda connection: get_order(
                connection, context.organization_id, context.path["payment_id"]
            )
        )
    )


@OPERATIONS.both(
    "POST",
    "/wallet/top-ups",
    access=WRITE,
    status=201,
    summary="Start a payment into the wallet",
    errors=(402, 502),
    example={"amount": "25", "currency": "usd"},
)
async def create_top_up(context: RequestContext[Empty, TopUpCreate]) -> PaymentResponse:
    """Make an order and a page of the payment provider on which it is paid: open `url` in a
    browser. The wallet is credited when the provider says that the payment succeeded. With
    `save_payment_method`, automatic top-ups can use the method of payment from then on."""
    context.principal.check_organization_wide()
    wanted = TopUp(
        amount=context.body.amount,
        save_payment_method=context.body.save_payment_method,
        claim=context.claim_id,
    )
    order = await context.services.checkout.start_top_up(
        context.services.storage, context.organization_id, wanted, by=context.actor
    )
    return to_payment_response(order)


@OPERATIONS.both(
    "GET",
    "/wallet/auto-top-up",
    access=READ,
    summary="Read the automatic top-up",
)
async def get_auto_top_up(context: RequestContext[Empty, Empty]) -> AutoTopUpResponse:
    """Return when and how much is charged to the saved payment method, what was charged in this
    month, and why the last attempt failed."""
    context.principal.check_organization_wide()
    return to_auto_top_up_response(
        await context.read(
            lambda connection: context.services.auto_top_ups.read(
                connection, context.organization_id
            )
        )
    )


@OPERATIONS.both(
    "PATCH",
    "/wallet/auto-top-up",
    access=WRITE,
    summary="Change the automatic top-up",
    errors=(409,),
    example=AUTO_TOP_UP,
)
async def update_auto_top_up(context: RequestContext[Empty, AutoTopUpSet]) -> AutoTopUpResponse:
    """Charge `amount` to the saved payment method whenever less than `threshold` is available, at
    most `monthly_maximum` in a calendar month. A payment method is saved by a top-up with
    `save_payment_method`. After a declined payment, the next attempt waits; after five in a row, or
    one that cannot succeed later, automatic top-ups are disabled. `wallet.top_up_failed` tells."""
    context.principal.check_organization_wide()

    def change(connection: sa.Connection) -> AutoTopUpResponse:
        service, organization_id = context.services.auto_top_ups, context.organization_id
        context.check_version(service.read(connection, organization_id).settings)
        wanted = to_auto_top_up_request(context.body)
        return to_auto_top_up_response(
            service.change(connection, organization_id, wanted, by=context.actor)
        )

    return await context.write(change)


@OPERATIONS.post(
    "/api/checkout-link",
    access=WRITE,
    summary="Create a link to pay",
    errors=(402, 502),
    example={"amount": "25"},
)
async def create_checkout_link(context: RequestContext[Empty, CheckoutLinkCreate]) -> LinkResponse:
    """Start a payment into the wallet, and return the address of the page on which it is paid."""
    context.principal.check_organization_wide()
    order = await context.services.checkout.start_top_up(
        context.services.storage,
        context.organization_id,
        TopUp(amount=context.body.amount, claim=context.claim_id),
        by=context.actor,
    )
    return LinkResponse(order.url or "")


@OPERATIONS.post(
    "/api/customer-portal",
    access=WRITE,
    summary="Create a link to payment methods",
    errors=(502,),
)
async def create_customer_portal(context: RequestContext[Empty, Empty]) -> LinkResponse:
    """Return the address of a page of the payment provider on which the organization sees its
    payments and changes its payment methods."""
    context.principal.check_organization_wide()
    return LinkResponse(
        await context.services.checkout.open_portal(
            context.services.storage, context.organization_id
        )
    )


@OPERATIONS.post(
    "/api/payments/stripe/callback",
    access=ANYONE,
    summary="Accept a message of Stripe",
    errors=(409,),
    example={"id": "evt_1", "object": "event", "type": "checkout.session.completed"},
)
async def take_stripe_notice(context: RequestContext[Empty, RawBody]) -> PaymentNoticeResponse:
    """Take a signed message of Stripe about a payment. Only messages that are signed with
    `HEADGATE_STRIPE_WEBHOOK_SECRET` are read. Each is acted by once, whatever their order."""
    outcome = await context.services.checkout.take_notice(
        context.services.storage,
        context.raw,
        context.request.headers.get("stripe-signature", ""),
        address=context.actor.address,
    )
    return PaymentNoticeResponse(outcome)


@OPERATIONS.post(
    "/api/platform/organizations/{organization_id}/adjustments",
    access=platform("platform:write"),
    status=201,
    summary="Add an adjustment of a wallet",
    example={
        "amount": "2.5",
        "reason": "Outage on 3 November",
        "reference": "ticket-4711",
    },
)
async def create_adjustment(
    context: RequestContext[Empty, AdjustmentCreate],
) -> AdjustmentResponse:
    """Credit a wallet, or debit it with a negative amount, and say why. Nothing is overwritten: an
    adjustment is a new transaction. A second one with the same reference is not made. With
    `invoice_id`, a credit note corrects that invoice."""
    body = context.body

    def adjust(connection: sa.Connection) -> AdjustmentResponse:
        found = context.services.accounts.get_organization(
            connection, context.path["organization_id"]
        )
        wanted = Adjustment(
            organization_id=found.id,
            amount_nano=to_nano(body.amount),
            reason=body.reason,
            reference=body.reference,
            invoice_id=body.invoice_id,
        )
        is_new = context.services.adjustments.adjust(connection, wanted, by=context.actor)
        balance = billing.read_wallet(connection, found.id)
        return AdjustmentResponse(
            created=is_new,
            reference=body.reference,
            available=to_dollars(balance.available_nano),
            debt=to_dollars(balance.debt_nano),
        )

    return await context.create(adjust)


@OPERATIONS.post(
    "/api/platform/organizations/{organization_id}/refunds",
    access=platform("platform:write"),
    summary="Make a refund of a payment",
    errors=(402, 502),
    example={"payment_id": "pay_0123", "amount": "10", "reason": "Paid twice"},
)
async def create_refund(context: RequestContext[Empty, RefundCreate]) -> PaymentResponse:
    """Give back a payment at the payment provider, in whole or in part. The wallet is debited by
    what it has; the rest is owed and paid by the next payment."""
    body = context.body
    found = await context.read(
        lambda connection: context.services.accounts.get_organization(
            connection, context.path["organization_id"]
        )
    )
    order = await context.services.checkout.refund(
        context.services.storage,
        found.id,
        body.payment_id,
        amount=body.amount,
        reason=body.reason,
        by=context.actor,
    )
    return to_payment_response(order)


def _read(services: Services, connection: sa.Connection, organization_id: str) -> WalletResponse:
    return to_wallet_response(
        billing.read_wallet(connection, organization_id),
        read_settings(connection, organization_id),
        services.plans.read_billing(connection, organization_id),
    )
