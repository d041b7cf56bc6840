"""`headgate invoices`: list, show and print invoices, and issue those of earlier months."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import sqlalchemy as sa
import typer
from rich.table import Table

from headgate.audit.model import COMMAND_LINE
from headgate.cli.data_directory import open_data_directory
from headgate.cli.options import Data, Json, format_time
from headgate.cli.tables import print_table
from headgate.kit.money import format_dollars
from headgate.main.application import Application
from headgate.payments.model.invoice import StoredInvoice
from headgate.payments.service.documents import name_file
from headgate.payments.service.invoices import get_invoice, list_invoices

LIST_MAX = 10_000

app = typer.Typer(add_completion=False, no_args_is_help=True, help="List, show and print invoices.")

Organization = Annotated[
    str | None, typer.Option(help="Organization id or name; needed where there are several.")
]
InvoiceId = Annotated[str, typer.Argument(help="Id or number; see `headgate invoices list`.")]


@app.command("list")
def list_all(
    data: Data = None,
    as_json: Json = False,
    organization: Organization = None,
    *,
    limit: Annotated[int, typer.Option(help="How many to show.", min=1, max=LIST_MAX)] = 100,
) -> None:
    """List the invoices of an organization, newest first."""
    with open_data_directory(data) as application, application.database.reading() as connection:
        owner = application.accounts.find_organization(connection, organization)
        found = list_invoices(connection, owner.id, before=None, limit=limit)
    if as_json:
        typer.echo(msgspec.json.encode([describe(each) for each in found]))
        return
    if not found:
        typer.echo(f"{owner.name} has no invoices.")
        return
    table = Table("Id", "Number", "Kind", "Month", "Total $", "Status", "Issued (UTC)")
    for each in found:
        invoice = each.invoice
        table.add_row(
            invoice.id,
            invoice.number,
            invoice.kind,
            invoice.month or "-",
            format_dollars(invoice.total_nano),
            "open" if each.paid_at is None else "paid",
            format_time(invoice.issued_at),
        )
    print_table(table)


@app.command()
def show(
    invoice_id: InvoiceId,
    data: Data = None,
    as_json: Json = False,
    organization: Organization = None,
) -> None:
    """Show an invoice with its lines."""
    with open_data_directory(data) as application, application.database.reading() as connection:
        stored = find(application, connection, organization, invoice_id)
    if as_json:
        typer.echo(msgspec.json.encode(describe(stored)))
        return
    invoice = stored.invoice
    due_nano = invoice.due_nano if stored.paid_at is None else 0
    status = f"open, ${format_dollars(due_nano)} is owed" if due_nano else "paid"
    typer.echo(f"{invoice.number} ({invoice.id}), {invoice.customer.name}: {status}")
    table = Table("Description", "Calls", "US $")
    for line in invoice.lines:
        calls = str(line.calls) if line.calls else ""
        table.add_row(line.description, calls, format_dollars(line.amount_nano))
    print_table(table)
    typer.echo(f"Total: ${format_dollars(invoice.total_nano)}")
    if invoice.kind == "month":
        typer.echo(
            f"Credits paid ${format_dollars(invoice.credits_nano)}, the wallet pays "
            f"${format_dollars(invoice.wallet_nano)}."
        )


@app.command()
def pdf(
    invoice_id: InvoiceId,
    data: Data = None,
    organization: Organization = None,
    *,
    output: Annotated[
        Path | None, typer.Option(help="File to write. [default: the number with .pdf]")
    ] = None,
) -> None:
    """Write an invoice as PDF. This needs the extra `invoices`."""
    with open_data_directory(data) as application:
        with application.database.reading() as connection:
            stored = find(application, connection, organization, invoice_id)
        content = application.render_invoice(stored)
    path = output or Path(name_file(stored))
    path.write_bytes(content)
    typer.echo(f"{path} has invoice {stored.invoice.number}.")


@app.command()
def issue(
    month: Annotated[str, typer.Argument(help="Calendar month in UTC, such as 2026-11.")],
    data: Data = None,
    as_json: Json = False,
    organization: Organization = None,
) -> None:
    """Issue the invoice of a month that is over, once. The server itself does so for every month
    since its first one with this version."""
    with open_data_directory(data) as application, application.database.transaction() as connection:
        owner = application.accounts.find_organization(connection, organization)
        monthly = application.monthly_invoices
        draft = monthly.draft(connection, owner.id, month)
        stored = None if draft is None else monthly.issue(connection, draft, by=COMMAND_LINE)
    if as_json:
        typer.echo(msgspec.json.encode(None if stored is None else describe(stored)))
    elif stored is None:
        typer.echo(f"No managed call of {owner.name} cost anything in {month}.")
    else:
        invoice = stored.invoice
        typer.echo(f"{invoice.number} ({invoice.id}): ${format_dollars(invoice.total_nano)}")


def find(
    application: Application,
    connection: sa.Connection,
    organization: str | None,
    invoice_id: str,
) -> StoredInvoice:
    """Return the invoice of an id or number. Raise `InvoiceNotFoundError`."""
    owner = application.accounts.find_organization(connection, organization)
    return get_invoice(connection, owner.id, invoice_id)


def describe(stored: StoredInvoice) -> dict[str, Any]:
    """Return an invoice as JSON types; amounts are dollars as text."""
    invoice: dict[str, Any] = msgspec.to_builtins(stored.invoice)
    for record in (invoice, *invoice["lines"]):
        for name in [each for each in record if each.endswith("_nano")]:
            record[name.removesuffix("_nano")] = format_dollars(record.pop(name))
    due_nano = stored.invoice.due_nano if stored.paid_at is None else 0
    return {
        **invoice,
        "wallet": format_dollars(stored.invoice.wallet_nano),
        "due": format_dollars(due_nano),
        "status": "open" if stored.paid_at is None else "paid",
        "paid_at": stored.paid_at,
    }
