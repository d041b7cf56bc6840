"""`headgate receipts`: delete old receipts."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from headgate.cli.data_directory import open_data_directory
from headgate.cli.options import Data, format_time, parse_past
from headgate.kit.db.writer import Writer
from headgate.main.application import Application
from headgate.metering import store as metering
from headgate.metering.jobs import Progress, Pruner, RollUps

ROWS_BETWEEN_LINES = 100_000

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Manage the receipts of calls.")


@app.callback()
def describe() -> None:
    """Manage the receipts of calls."""


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
