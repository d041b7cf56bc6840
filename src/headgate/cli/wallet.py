"""`headgate wallet`: show and fund the wallet that pays for managed calls."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Annotated

import typer

from headgate.billing.service import ledger as billing
from headgate.cli.data_directory import open_data_directory
from headgate.cli.options import Data
from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.money import NANO_PER_DOLLAR, format_dollars, nano_from_dollars

GRANT_DOLLARS_MAX = 1_000_000
"""Even thousands of such grants stay far below the largest integer of the database."""

app = typer.Typer(
    no_args_is_help=True, help="Show and fund the prepaid wallet that pays for managed calls."
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
def show(data: Data = None, organization: Organization = None) -> None:
    """Show the amount that can be spent now, without what is held for open calls."""
    with open_data_directory(data) as application, application.database.reading() as connection:
        found = application.accounts.find_organization(connection, organization)
        available = format_dollars(billing.read_available(connection, found.id))
        owed_nano = billing.read_debt(connection, found.id)
    owed = f"; ${format_dollars(owed_nano)} is owed" if owed_nano else ""
    typer.echo(f"{found.name} ({found.id}): ${available}{owed}")


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
