"""`headgate audit`: read the audit log and check its chain."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer
from rich.table import Table

from headgate.audit.model import AuditFilter
from headgate.cli.data_directory import open_data_directory
from headgate.cli.options import Data, Json, format_time
from headgate.cli.tables import print_table

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Read and check the audit log.")


@app.command("list")
def list_entries(
    data: Data = None,
    as_json: Json = False,
    *,
    limit: Annotated[
        int, typer.Option(min=1, max=10_000, help="Number of entries, newest first.")
    ] = 50,
    object_id: Annotated[
        str | None, typer.Option("--object", help="Only entries about this object id.")
    ] = None,
) -> None:
    """List who did what to which object, from where, newest first."""
    with open_data_directory(data) as application, application.database.reading() as connection:
        audit_filter = AuditFilter(object_id=object_id)
        entries, total = application.audit.list(connection, audit_filter, limit=limit)
    if as_json:
        typer.echo(msgspec.json.encode(entries))
        return
    table = Table("No.", "At", "Who", "From", "Did", "To", "Changes", caption=f"{total} in all")
    for entry in entries:
        table.add_row(
            str(entry.number),
            format_time(entry.at),
            entry.actor.name or entry.actor.id,
            entry.actor.address or "-",
            entry.event.action,
            entry.event.object_id,
            msgspec.json.encode(entry.event.changes).decode() if entry.event.changes else "",
        )
    print_table(table)


@app.command()
def verify(
    data: Data = None,
    head: Annotated[
        str | None, typer.Option(help="A hash from an earlier check, which must be in the chain.")
    ] = None,
) -> None:
    """Verify the whole chain of hashes. The exit status is 1 if it is not intact."""
    with open_data_directory(data) as application, application.database.reading() as connection:
        log = application.audit
        verification = log.verify(connection)
        is_known = head is None or log.contains_hash(connection, head)
    if verification.fault is not None:
        typer.echo(f"The audit log is not intact: {verification.fault}.", err=True)
        raise typer.Exit(1)
    if not is_known:
        typer.echo(f"The audit log was rewritten: it does not contain {head} any more.", err=True)
        raise typer.Exit(1)
    typer.echo(
        f"All {verification.entries} entries are intact. "
        f"The newest hash is {verification.head.hex()}"
    )
