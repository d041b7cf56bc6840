"""`headgate keys`: issue, list and revoke keys."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from headgate.audit.model import COMMAND_LINE
from headgate.cli.desk import open_desk
from headgate.cli.options import Data, Json, format_time, parse_expiry
from headgate.keys.model import Key, KeyKind, KeyRequest
from headgate.relay.ports import DisconnectPolicy

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Issue, list and revoke keys.")

Patterns = list[str] | None


@app.command()
def create(
    data: Data = None,
    as_json: Json = False,
    *,
    name: Annotated[str, typer.Option(help="What the key is for.")] = "key",
    project: Annotated[str | None, typer.Option(help="Id or name; else the oldest.")] = None,
    kind: Annotated[KeyKind, typer.Option(help="live calls models, admin manages.")] = KeyKind.LIVE,
    expires: Annotated[str | None, typer.Option(help="90d, 12h, or an ISO 8601 time.")] = None,
    models: Annotated[Patterns, typer.Option(help="Allowed models, * for any part.")] = None,
    endpoints: Annotated[Patterns, typer.Option(help="Allowed endpoints, * for any part.")] = None,
    requests_per_minute: Annotated[int, typer.Option(help="0 is no limit.")] = 0,
    on_disconnect: Annotated[
        DisconnectPolicy | None,
        typer.Option(help="For callers that leave; else as HEADGATE_DISCONNECT_POLICY."),
    ] = None,
) -> None:
    """Issue a key and print its token, which cannot be shown again."""
    with open_desk(data) as desk, desk.database.transaction() as connection:
        owner = desk.accounts.find_project(connection, project)
        request = KeyRequest(
            name=name,
            organization_id=owner.organization_id,
            project_id=owner.id,
            kind=kind,
            expires_at=parse_expiry(expires, desk.clock.now()),
            models=_split(models),
            endpoints=_split(endpoints),
            requests_per_minute=requests_per_minute,
            on_disconnect=on_disconnect,
        )
        issued = desk.keys.create(connection, request, by=COMMAND_LINE)
    if as_json:
        typer.echo(msgspec.json.encode(issued))
        return
    typer.echo(issued.token)
    typer.echo(f"This is {issued.key.id}. Keep it now: it is not shown again.", err=True)


@app.command("list")
def list_keys(data: Data = None, as_json: Json = False) -> None:
    """Every key that was ever issued, without its secret."""
    with open_desk(data) as desk, desk.database.reading() as connection:
        keys = desk.keys.list(connection)
        now = desk.clock.now()
    if as_json:
        typer.echo(msgspec.json.encode(keys))
        return
    table = Table("Id", "Kind", "Name", "Project", "State", "Created", "Expires", "On disconnect")
    for key in keys:
        table.add_row(
            key.id,
            key.kind.value,
            key.name,
            key.project_id,
            _state(key, now),
            format_time(key.created_at),
            format_time(key.expires_at),
            key.on_disconnect.value if key.on_disconnect else "",
        )
    Console().print(table)


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="As `headgate keys list` shows it.")],
    data: Data = None,
) -> None:
    """Refuse a key for good, at once; it cannot be undone."""
    with open_desk(data) as desk, desk.database.transaction() as connection:
        key = desk.keys.revoke(connection, key_id, by=COMMAND_LINE)
    typer.echo(f"{key.id} ({key.name}) is revoked.")


def _split(patterns: Patterns) -> tuple[str, ...]:
    return tuple(part for text in patterns or () for part in text.split(",") if part)


def _state(key: Key, now: float) -> str:
    if key.revoked_at is not None:
        return "revoked"
    if key.disabled_at is not None:
        return "disabled"
    return "expired" if key.expires_at is not None and key.expires_at <= now else "active"
