"""`headgate receipts`: list and show the receipts of calls, and delete old ones."""

from __future__ import annotations

import asyncio
from decimal import Decimal, InvalidOperation
from typing import Annotated

import msgspec
import sqlalchemy as sa
import typer

from headgate.api.schemas.receipts import to_receipt_details_response, to_receipt_response
from headgate.cli.data_directory import open_data_directory
from headgate.cli.options import Data, Json, format_time, parse_past
from headgate.cli.receipt_view import print_details, print_receipts
from headgate.kit.db.writer import Writer
from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.money import nano_from_dollars
from headgate.kit.page_cursor import PageCursor
from headgate.main.application import Application
from headgate.metering import store as metering
from headgate.metering.jobs import Progress, Pruner, RollUps
from headgate.metering.model.receipt_filter import ReceiptFilter
from headgate.relay.ports import Receipt

ROWS_BETWEEN_LINES = 100_000
PAGE_ROWS = 500

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="List, show and prune the receipts of calls."
)

Organization = Annotated[
    str | None, typer.Option(help="Organization id or name; needed where there are several.")
]


class InvalidReceiptFilterError(HeadgateError):
    """An option that selects receipts cannot be read.

    Write amounts in dollars, such as `0.05`, and metadata as `name:value`.
    """

    kind = Kind.INVALID
    code = "invalid_filter"


@app.callback()
def describe() -> None:
    """List, show and prune the receipts of calls."""


@app.command("list")
def list_receipts(
    data: Data = None,
    as_json: Json = False,
    organization: Organization = None,
    *,
    limit: Annotated[
        int, typer.Option(min=1, max=100_000, help="Number of receipts, newest first.")
    ] = 50,
    since: Annotated[
        str | None, typer.Option(help="Only since an age such as 24h, or an ISO 8601 time.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Only before an age or a time.")] = None,
    key: Annotated[str | None, typer.Option(help="Only calls of this key id.")] = None,
    project: Annotated[str | None, typer.Option(help="Only calls of this project id.")] = None,
    model: Annotated[
        str | None, typer.Option(help="Only calls that asked for this model, or that it answered.")
    ] = None,
    provider: Annotated[str | None, typer.Option(help="Only calls to this provider.")] = None,
    endpoint: Annotated[
        str | None, typer.Option(help="Only calls of this endpoint: chat.completions, ...")
    ] = None,
    outcome: Annotated[
        str | None,
        typer.Option(
            help="completed, upstream_error, broken, cancelled, refused, unknown or corrected."
        ),
    ] = None,
    status: Annotated[int | None, typer.Option(help="Only calls of this HTTP status.")] = None,
    managed: Annotated[
        bool | None,
        typer.Option("--managed/--own", help="Only calls that the wallet pays, or only others."),
    ] = None,
    metadata: Annotated[
        str | None, typer.Option(help="Only calls with this pair, as name:value.")
    ] = None,
    cost_min: Annotated[
        str | None, typer.Option(help="Only receipts of at least this cost in US dollars.")
    ] = None,
    cost_max: Annotated[
        str | None, typer.Option(help="Only receipts of at most this cost in US dollars.")
    ] = None,
) -> None:
    """List receipts, newest first."""
    with open_data_directory(data) as application, application.database.reading() as connection:
        now = application.clock.now()
        owner = application.accounts.find_organization(connection, organization)
        filters = ReceiptFilter(
            organization_id=owner.id,
            since=None if since is None else parse_past(since, now),
            until=None if until is None else parse_past(until, now),
            key_id=key,
            project_id=project,
            model=model,
            provider=provider,
            endpoint=endpoint,
            outcome=outcome,
            status=status,
            managed=managed,
            metadata=None if metadata is None else parse_pair(metadata),
            cost_min_nano=None if cost_min is None else parse_amount(cost_min),
            cost_max_nano=None if cost_max is None else parse_amount(cost_max),
        )
        receipts = _read_pages(application, connection, filters, limit)
    if as_json:
        typer.echo(msgspec.json.encode([to_receipt_response(receipt) for receipt in receipts]))
        return
    print_receipts(receipts)


@app.command()
def show(
    request: Annotated[
        str,
        typer.Argument(
            help="Request id (x-headgate-request-id), or another id of the call: x-request-id, "
            "correlation id, or the id in the answer."
        ),
    ],
    data: Data = None,
    as_json: Json = False,
    organization: Organization = None,
) -> None:
    """Show a receipt: line items, hold, entries of the ledger, corrections."""
    with open_data_directory(data) as application, application.database.reading() as connection:
        known = metering.find(connection, request)
        if known is not None and organization is None:
            organization_id = known.organization_id
        else:
            owner = application.accounts.find_organization(connection, organization)
            organization_id = owner.id
        visible = ReceiptFilter(organization_id=organization_id)
        details = application.receipts.get(connection, visible, request)
    if as_json:
        typer.echo(msgspec.json.encode(to_receipt_details_response(details)))
        return
    print_details(details)


def _read_pages(
    application: Application, connection: sa.Connection, filters: ReceiptFilter, limit: int
) -> list[Receipt]:
    """Return the newest matching receipts, at most `limit`, from as many pages as that takes."""
    found: list[Receipt] = []
    after: PageCursor | None = None
    while True:
        rows_max = min(PAGE_ROWS, limit - len(found))
        page = application.receipts.list(connection, filters, after=after, limit=rows_max)
        found += page.receipts
        after = page.next
        if after is None or len(found) >= limit:
            return found


def parse_pair(text: str) -> tuple[str, str]:
    """Return name and value of `name:value`. Raise `InvalidReceiptFilterError`."""
    name, colon, value = text.partition(":")
    if not (name and colon):
        raise InvalidReceiptFilterError(f"{text!r} is not a pair such as team:search.")
    return name, value


def parse_amount(text: str) -> int:
    """Return an amount in nano-dollars. Raise `InvalidReceiptFilterError`."""
    try:
        return nano_from_dollars(Decimal(text))
    except (InvalidOperation, ValueError, OverflowError) as error:
        raise InvalidReceiptFilterError(
            f"{text!r} is not an amount in dollars, such as 0.05."
        ) from error


@app.command()
def prune(
    data: Data = None,
    *,
    before: Annotated[str, typer.Option(help="An age such as 90d, or an ISO 8601 time.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count the receipts.")] = False,
) -> None:
    """Delete receipts older than a time. Ledger entries stay, with every amount in them, and so do
    the sums of usage.

    The server may run meanwhile. The database file does not shrink; new receipts take the freed
    room.
    """
    with open_data_directory(data) as application:
        at = parse_past(before, application.clock.now())
        if dry_run:
            with application.database.reading() as connection:
                rows = metering.count_before(connection, at)
            typer.echo(f"{rows} receipts are older than {format_time(at)} UTC.")
            return
        rows = asyncio.run(_prune(application, at)).rows
    typer.echo(f"{rows} receipts older than {format_time(at)} UTC are deleted.")


async def _prune(application: Application, at: float) -> Progress:
    writer = Writer(application.database)
    writer.start()
    printed = 0

    def print_progress(progress: Progress) -> None:
        nonlocal printed
        if progress.rows - printed >= ROWS_BETWEEN_LINES:
            printed = progress.rows
            typer.echo(f"{printed} so far", err=True)

    try:
        await RollUps(writer).run()
        return await Pruner(writer).run(at, print_progress)
    finally:
        await writer.stop()
