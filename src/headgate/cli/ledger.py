"""`headgate ledger`: verify the ledger, and correct what calls of unknown outcome were billed."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Annotated

import msgspec
import typer
from rich.table import Table

from headgate.audit.model import COMMAND_LINE, AuditEvent
from headgate.billing.service import reconciliation
from headgate.billing.service.verification import verify as verify_ledger
from headgate.cli.data_directory import open_data_directory
from headgate.cli.options import Data, Json, format_time
from headgate.cli.tables import print_table
from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.money import format_dollars, nano_from_dollars

DAY_SECONDS = 86_400
COST_NANO_MAX = 10**15

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Verify the ledger and correct its bills."
)


class InvalidCostError(HeadgateError):
    """The cost cannot be read, or is out of range.

    Write dollars, such as `0` or `0.0125`.
    """

    kind = Kind.INVALID
    code = "invalid_cost"


@app.command()
def verify(data: Data = None, as_json: Json = False) -> None:
    """Verify entries, balances, holds, receipts and budgets, also beside a running server.

    The exit status is 1 if anything does not add up.
    """
    with open_data_directory(data) as application, application.database.reading() as connection:
        days = application.settings.retention_days
        since = application.clock.now() - days * DAY_SECONDS if days else 0.0
        faults = verify_ledger(connection, receipts_since=since)
    if as_json:
        typer.echo(msgspec.json.encode({"ok": not faults, "faults": faults}))
    elif faults:
        typer.echo("\n".join(faults), err=True)
    else:
        typer.echo("The ledger adds up: entries, balances, holds, receipts and budgets agree.")
    if faults:
        raise typer.Exit(1)


@app.command()
def unknown(
    data: Data = None,
    as_json: Json = False,
    *,
    limit: Annotated[
        int, typer.Option(min=1, max=10_000, help="Number of calls, newest first.")
    ] = 100,
) -> None:
    """List the calls whose outcome is unknown: billed at their hold, and not corrected."""
    with open_data_directory(data) as application, application.database.reading() as connection:
        calls = reconciliation.list_unknown(connection, rows_max=limit)
    receipts = [call.receipt for call in calls]
    if as_json:
        typer.echo(msgspec.json.encode(receipts))
        return
    table = Table("Request", "At", "Organization", "Key", "Model", "Billed")
    for receipt in receipts:
        table.add_row(
            receipt.request_id,
            format_time(receipt.created_at),
            receipt.organization_id,
            receipt.key_id,
            receipt.model_requested or "-",
            f"${format_dollars(receipt.cost_nano)}",
        )
    print_table(table)


@app.command()
def correct(
    request: Annotated[str, typer.Argument(help="Request id of the call.")],
    data: Data = None,
    *,
    cost: Annotated[str, typer.Option(help="What the call really cost, in US dollars.")],
    reason: Annotated[str, typer.Option(help="Why, for the audit log.")],
) -> None:
    """Correct what a call was billed. The difference is a new transaction and a new receipt."""
    cost_nano = parse_cost(cost)
    with open_data_directory(data) as application, application.database.transaction() as connection:
        now = application.clock.now()
        correction = reconciliation.correct(connection, request, cost_nano, at=now)
        if correction is not None:
            changes = {"cost_nano": cost_nano, "by_nano": correction.cost_nano, "reason": reason}
            event = AuditEvent("call.corrected", correction.organization_id, request, changes)
            application.audit.record(connection, COMMAND_LINE, event)
    if correction is None:
        typer.echo(f"{request} costs ${format_dollars(cost_nano)} already.")
        return
    by = format_dollars(correction.cost_nano)
    typer.echo(f"{request} now costs ${format_dollars(cost_nano)}, changed by ${by}.")


def parse_cost(text: str) -> int:
    """Return an amount in nano-dollars that is not negative. Raise `InvalidCostError`."""
    try:
        amount = nano_from_dollars(Decimal(text))
    except (InvalidOperation, ValueError, OverflowError) as error:
        raise InvalidCostError(f"{text!r} is not an amount in dollars, such as 0.0125.") from error
    if not 0 <= amount <= COST_NANO_MAX:
        raise InvalidCostError("The cost must be 0 or more, and at most a million dollars.")
    return amount
