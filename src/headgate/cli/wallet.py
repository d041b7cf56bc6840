"""`headgate wallet`: show, fund, correct and top up the wallet that pays for managed calls."""

from __future__ import annotations

import asyncio
from decimal import Decimal, InvalidOperation
from typing import Annotated

import msgspec
import typer
from rich.table import Table

from headgate.audit.model import COMMAND_LINE
from headgate.billing.service import ledger as billing
from headgate.billing.service import wallet
from headgate.cli.data_directory import open_data_directory
from headgate.cli.options import Data, Json, format_time
from headgate.cli.tables import print_table
from headgate.cli.wallet_format import (
    describe_auto_top_up,
    describe_entry,
    describe_top_up,
    describe_wallet,
    pays_overage,
)
from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.money import NANO_PER_DOLLAR, format_dollars, nano_from_dollars
from headgate.main.payments import start_top_up
from headgate.payments.model.order import NANO_PER_CENT, format_cents
from headgate.payments.service.adjustments import Adjustment
from headgate.payments.service.auto_top_ups import AutoTopUpRequest
from headgate.payments.service.checkout import TopUp

LIST_MAX = 10_000
GRANT_DOLLARS_MAX = 1_000_000
"""Even thousands of such grants stay far below the largest integer of the database."""

app = typer.Typer(
    no_args_is_help=True, help="Show, fund and top up the prepaid wallet of managed calls."
)

Organization = Annotated[
    str | None, typer.Option(help="Organization id; needed where there are several.")
]


class InvalidAmountError(HeadgateError):
    """The amount cannot be read, or is out of range.

    Write dollars, such as `25` or `0.50`.
    """

    kind = Kind.INVALID
    code = "invalid_amount"


@app.command()
def show(data: Data = None, as_json: Json = False, organization: Organization = None) -> None:
    """Show what can be spent now, what is held for open calls, what is owed, and the credits."""
    with open_data_directory(data) as application, application.database.reading() as connection:
        found = application.accounts.find_organization(connection, organization)
        balance = wallet.read_wallet(connection, found.id)
        state = application.plans.read_billing(connection, found.id)
        top_up = application.auto_top_ups.read(connection, found.id)
    if as_json:
        typer.echo(msgspec.json.encode(describe_wallet(balance, state, top_up)))
        return
    owed = f"; ${format_dollars(balance.debt_nano)} is owed" if balance.debt_nano else ""
    typer.echo(f"{found.name} ({found.id}): ${format_dollars(balance.available_nano)}{owed}")
    if balance.held_nano:
        typer.echo(f"Held for open calls: ${format_dollars(balance.held_nano)}")
    if state.plan is not None:
        overage = "the wallet pays" if pays_overage(state) else "nothing pays"
        typer.echo(
            f"Credits of the plan {state.plan.name}: ${format_dollars(state.remaining_nano)} of "
            f"${format_dollars(state.credits_nano)} are left until {format_time(state.resets_at)} "
            f"UTC; {overage} what exceeds them."
        )
    if top_up.settings.enabled:
        typer.echo(describe_top_up(top_up))


@app.command()
def entries(
    data: Data = None,
    as_json: Json = False,
    organization: Organization = None,
    *,
    limit: Annotated[int, typer.Option(help="How many to show.", min=1, max=LIST_MAX)] = 20,
) -> None:
    """List the changes of the wallet, newest first."""
    with open_data_directory(data) as application, application.database.reading() as connection:
        found = application.accounts.find_organization(connection, organization)
        changes = wallet.list_wallet_entries(connection, found.id, before=None, limit=limit)
    if as_json:
        typer.echo(msgspec.json.encode([describe_entry(each) for each in changes]))
        return
    table = Table("Time (UTC)", "Kind", "Change $", "About")
    for each in changes:
        about = each.request_id or each.reference
        amount = format_dollars(each.amount_nano)
        table.add_row(format_time(each.created_at), each.kind, amount, about)
    print_table(table)


@app.command()
def adjust(
    dollars: Annotated[str, typer.Argument(help="Amount in US dollars, such as 25 or 0.50.")],
    data: Data = None,
    as_json: Json = False,
    organization: Organization = None,
    *,
    debit: Annotated[
        bool, typer.Option("--debit", help="Take the amount out of the wallet.")
    ] = False,
    reason: Annotated[str, typer.Option(help="Why; the audit log and a credit note say it.")],
    reference: Annotated[
        str, typer.Option(help="A name for it. A second adjustment of the same name is not made.")
    ],
    invoice: Annotated[
        str | None, typer.Option(help="Id of the invoice that a credit note corrects.")
    ] = None,
) -> None:
    """Correct a wallet. What a debit takes beyond the wallet becomes debt."""
    amount_nano = parse_dollars(dollars)
    with open_data_directory(data) as application, application.database.transaction() as connection:
        found = application.accounts.find_organization(connection, organization)
        wanted = Adjustment(
            organization_id=found.id,
            amount_nano=-amount_nano if debit else amount_nano,
            reason=reason,
            reference=reference,
            invoice_id=invoice,
        )
        is_new = application.adjustments.adjust(connection, wanted, by=COMMAND_LINE)
        balance = wallet.read_wallet(connection, found.id)
    if as_json:
        shown = {
            "created": is_new,
            "reference": reference,
            "available": format_dollars(balance.available_nano),
            "debt": format_dollars(balance.debt_nano),
        }
        typer.echo(msgspec.json.encode(shown))
        return
    owed = f", and owes ${format_dollars(balance.debt_nano)}" if balance.debt_nano else ""
    done = "Adjusted" if is_new else "Already adjusted"
    typer.echo(f"{done}; {found.name} has ${format_dollars(balance.available_nano)}{owed}.")


@app.command("top-up")
def top_up(
    dollars: Annotated[str, typer.Argument(help="Amount in US dollars, in whole cents.")],
    data: Data = None,
    as_json: Json = False,
    organization: Organization = None,
    *,
    save_payment_method: Annotated[
        bool, typer.Option(help="Let automatic top-ups use the method of payment later.")
    ] = False,
) -> None:
    """Start a payment and print the address of the page on which it is paid. Stripe's key is read
    from HEADGATE_STRIPE_SECRET_KEY."""
    wanted = TopUp(amount=dollars, save_payment_method=save_payment_method)
    with open_data_directory(data) as application:
        with application.database.reading() as connection:
            found = application.accounts.find_organization(connection, organization)
        order = asyncio.run(start_top_up(application, found.id, wanted, by=COMMAND_LINE))
    if as_json:
        shown = {"id": order.id, "status": order.status, "url": order.url}
        typer.echo(msgspec.json.encode({**shown, "amount": format_cents(order.amount_cents)}))
        return
    typer.echo(f"Pay ${format_cents(order.amount_cents)} into {found.name}: {order.url}")


@app.command("auto-top-up")
def auto_top_up(
    data: Data = None,
    as_json: Json = False,
    organization: Organization = None,
    *,
    enabled: Annotated[
        bool | None, typer.Option("--enable/--disable", help="Whether it is on.")
    ] = None,
    threshold: Annotated[
        str | None, typer.Option(help="Top up when less US dollars than this are available.")
    ] = None,
    amount: Annotated[str | None, typer.Option(help="US dollars that one top-up charges.")] = None,
    monthly_maximum: Annotated[
        str | None,
        typer.Option(help="US dollars that a month's top-ups charge at most; `none` for no limit."),
    ] = None,
) -> None:
    """Show when and how much is charged to the saved payment method, or change it."""
    maximum = None if monthly_maximum in (None, "none") else parse_cents(monthly_maximum)
    wanted = AutoTopUpRequest(
        enabled=enabled,
        threshold_nano=None if threshold is None else parse_cents(threshold) * NANO_PER_CENT,
        amount_cents=None if amount is None else parse_cents(amount),
        month_cents=maximum,
        has_maximum=monthly_maximum is not None,
    )
    with open_data_directory(data) as application, application.database.transaction() as connection:
        found = application.accounts.find_organization(connection, organization)
        service = application.auto_top_ups
        if wanted == AutoTopUpRequest():
            state = service.read(connection, found.id)
        else:
            state = service.change(connection, found.id, wanted, by=COMMAND_LINE)
    typer.echo(
        msgspec.json.encode(describe_auto_top_up(state)) if as_json else describe_top_up(state)
    )


@app.command()
def fund(
    dollars: Annotated[str, typer.Argument(help="Amount in US dollars, such as 25 or 0.50.")],
    data: Data = None,
    organization: Organization = None,
    *,
    reference: Annotated[
        str,
        typer.Option(help="A name for this grant. A second grant of the same name is not made."),
    ],
) -> None:
    """Grant an organization money."""
    amount_nano = parse_dollars(dollars)
    with open_data_directory(data) as application, application.database.transaction() as connection:
        found = application.accounts.find_organization(connection, organization)
        is_new = billing.fund(
            connection,
            found.id,
            amount_nano=amount_nano,
            reference=reference,
            now=application.clock.now(),
        )
        available = format_dollars(billing.read_available(connection, found.id))
    typer.echo(f"{'Granted' if is_new else 'Already granted'}; {found.name} has ${available}.")


def parse_dollars(text: str) -> int:
    """Return a positive amount in nano-dollars. Raise `InvalidAmountError`."""
    try:
        amount = nano_from_dollars(Decimal(text))
    except (InvalidOperation, ValueError, OverflowError) as error:
        raise InvalidAmountError(
            f"{text!r} is not an amount in dollars, such as 25 or 0.50."
        ) from error
    if not 0 < amount <= GRANT_DOLLARS_MAX * NANO_PER_DOLLAR:
        raise InvalidAmountError(f"The amount must be more than 0 and at most {GRANT_DOLLARS_MAX}.")
    return amount


def parse_cents(text: str) -> int:
    """Return an amount in cents. Raise `InvalidAmountError`."""
    cents, rest = divmod(parse_dollars(text), NANO_PER_CENT)
    if rest:
        raise InvalidAmountError(f"{text!r} is not in whole cents.")
    return cents
