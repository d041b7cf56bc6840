"""`headgate keys`: issue, show, rotate, disable and revoke keys."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated, Any

import msgspec
import sqlalchemy as sa
import typer
from rich.table import Table

from headgate.audit.model import COMMAND_LINE
from headgate.cli.capacity_limits import Clear, Limits, describe_limits, parse_limits
from headgate.cli.data_directory import open_data_directory
from headgate.cli.options import Data, Json, format_time, parse_expiry
from headgate.cli.tables import print_table
from headgate.keys.model import IssuedKey, Key, KeyKind, KeyRequest, find_state
from headgate.keys.model.budget import LIMIT_NANO_END
from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.money import format_dollars, nano_from_dollars
from headgate.main.application import Application
from headgate.relay.ports import DisconnectPolicy

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Issue, show, rotate and revoke keys."
)

Patterns = list[str] | None
Endpoints = Annotated[Patterns, typer.Option(help="Allowed endpoints; * matches any text.")]
Tools = Annotated[Patterns, typer.Option(help="Allowed tools of agents; * matches any text.")]
KeyId = Annotated[str, typer.Argument(help="Id of the key; see `headgate keys list`.")]


class InvalidOptionError(HeadgateError):
    """An option of the command cannot be read.

    Write it as the message says.
    """

    kind = Kind.INVALID
    code = "invalid_option"


@app.command()
def create(
    data: Data = None,
    as_json: Json = False,
    *,
    name: Annotated[str, typer.Option(help="What the key is for.")] = "key",
    project: Annotated[
        str | None, typer.Option(help="Project id or name. [default: the oldest]")
    ] = None,
    kind: Annotated[
        KeyKind, typer.Option(help="live: calls models; admin: manages.")
    ] = KeyKind.LIVE,
    expires: Annotated[
        str | None, typer.Option(help="Lifetime such as 90d or 12h, or an ISO 8601 time.")
    ] = None,
    models: Annotated[Patterns, typer.Option(help="Allowed models; * matches any text.")] = None,
    endpoints: Endpoints = None,
    projects: Annotated[Patterns, typer.Option(help="More projects that the key may use.")] = None,
    networks: Annotated[Patterns, typer.Option(help="Allowed client networks (CIDR).")] = None,
    resources: Annotated[Patterns, typer.Option(help="Allowed resources.")] = None,
    tools: Tools = None,
    permissions: Annotated[
        Patterns, typer.Option(help="Of an admin key, such as keys:read; * includes the platform.")
    ] = None,
    requests_per_minute: Annotated[int, typer.Option(help="0: no limit.")] = 0,
    tokens_per_minute: Annotated[int, typer.Option(help="0: no limit.")] = 0,
    monthly_budget: Annotated[
        str | None, typer.Option(help="US dollars in a calendar month (UTC).")
    ] = None,
    budget_managed_only: Annotated[
        bool, typer.Option(help="Let the budget count only the calls that the wallet pays.")
    ] = False,
    requires_signature: Annotated[
        bool, typer.Option("--requires-signature", help="Accept signed requests only.")
    ] = False,
    description: Annotated[str, typer.Option(help="Free text.")] = "",
    labels: Annotated[list[str] | None, typer.Option("--label", help="name=text")] = None,
    on_disconnect: Annotated[
        DisconnectPolicy | None,
        typer.Option(help="When the client disconnects. [default: HEADGATE_DISCONNECT_POLICY]"),
    ] = None,
) -> None:
    """Issue a key and print its token, which cannot be shown again."""
    with open_data_directory(data) as application, application.database.transaction() as connection:
        owner = application.accounts.find_project(connection, project)
        request = KeyRequest(
            name=name,
            organization_id=owner.organization_id,
            project_id=owner.id,
            kind=kind,
            expires_at=parse_expiry(expires, application.clock.now()),
            models=_split(models),
            endpoints=_split(endpoints),
            projects=_split(projects),
            networks=_split(networks),
            resources=_split(resources),
            tools=_split(tools),
            permissions=_split(permissions),
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            monthly_budget_nano=_parse_budget(monthly_budget),
            budget_managed_only=budget_managed_only,
            requires_signature=requires_signature,
            description=description,
            labels=_parse_labels(labels or []),
            on_disconnect=on_disconnect,
        )
        issued = application.keys.create(connection, request, by=COMMAND_LINE)
        secret = _issue_secret(application, connection, issued.key)
    _show_token(issued, as_json=as_json, signing_secret=secret)


@app.command("list")
def list_keys(data: Data = None, as_json: Json = False) -> None:
    """List every key that was ever issued, without secrets."""
    with open_data_directory(data) as application, application.database.reading() as connection:
        keys = application.keys.list(connection)
        now = application.clock.now()
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
            find_state(key, now).value,
            format_time(key.created_at),
            format_time(key.expires_at),
            key.on_disconnect.value if key.on_disconnect else "",
        )
    print_table(table)


@app.command()
def show(key_id: KeyId, data: Data = None, as_json: Json = False) -> None:
    """Show everything about a key except its secret."""
    with open_data_directory(data) as application, application.database.reading() as connection:
        key = application.keys.get(connection, None, key_id)
        state = find_state(key, application.clock.now())
    if as_json:
        typer.echo(msgspec.json.encode(key))
        return
    table = Table(show_header=False, box=None)
    table.add_row("state", state.value)
    for name, value in msgspec.structs.asdict(key).items():
        table.add_row(name.replace("_", " "), _describe(name, value))
    print_table(table)


@app.command()
def rotate(
    key_id: KeyId,
    data: Data = None,
    as_json: Json = False,
    *,
    overlap: Annotated[
        str, typer.Option(help="How long the current token stays valid: 12h, 7d, at most 30d.")
    ] = "0m",
) -> None:
    """Print a new token for a key. The current one stays valid for the overlap."""
    with open_data_directory(data) as application, application.database.transaction() as connection:
        now = application.clock.now()
        until = parse_expiry(overlap, now)
        assert until is not None, "there is a default"
        key = application.keys.get(connection, None, key_id)
        issued = application.keys.rotate(
            connection, key, overlap_seconds=until - now, by=COMMAND_LINE
        )
    _show_token(issued, as_json=as_json)


@app.command("signing-secret")
def signing_secret(
    key_id: KeyId,
    data: Data = None,
    as_json: Json = False,
    *,
    overlap: Annotated[
        str, typer.Option(help="How long the current secret stays valid: 12h, 7d, at most 30d.")
    ] = "0m",
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete the secret, and make no new one.")
    ] = False,
) -> None:
    """Print a new secret with which requests of a key are signed. It cannot be shown again."""
    with open_data_directory(data) as application, application.database.transaction() as connection:
        service = application.unlock(connection).signing_secrets
        key = application.keys.get(connection, None, key_id)
        if delete:
            service.delete(connection, key, by=COMMAND_LINE)
            typer.echo(f"The signing secret of {key.id} ({key.name}) is deleted.", err=True)
            return
        now = application.clock.now()
        until = parse_expiry(overlap, now)
        assert until is not None, "there is a default"
        secret = service.issue(connection, key, overlap_seconds=until - now, by=COMMAND_LINE)
    if as_json:
        typer.echo(msgspec.json.encode({"key_id": key.id, "signing_secret": secret}))
        return
    typer.echo(secret)
    typer.echo(
        f"This is the signing secret of {key.id}. Store it now: it is not shown again.", err=True
    )


@app.command("require-signature")
def require_signature(
    key_id: KeyId,
    data: Data = None,
    *,
    off: Annotated[bool, typer.Option("--off", help="Accept unsigned requests again.")] = False,
) -> None:
    """Let a key accept signed requests only. Create its secret with `signing-secret` first."""
    with open_data_directory(data) as application, application.database.transaction() as connection:
        key = application.keys.get(connection, None, key_id)
        if not off:
            application.unlock(connection).signing_secrets.check_usable(connection, key)
        changes = {"requires_signature": not off}
        key = application.keys.update(connection, key, changes, by=COMMAND_LINE)
    accepted = "all requests" if off else "signed requests only"
    typer.echo(f"{key.id} ({key.name}) accepts {accepted}.")


@app.command()
def capacity(
    key_id: KeyId,
    limits: Limits = None,
    data: Data = None,
    *,
    clear: Clear = False,
    enforce: Annotated[
        bool | None,
        typer.Option("--enforce/--no-enforce", help="Whether the limits refuse calls."),
    ] = None,
) -> None:
    """Show the limits of a key's capacity, or replace them."""
    with open_data_directory(data) as application, application.database.transaction() as connection:
        key = application.keys.get(connection, None, key_id)
        changes: dict[str, Any] = {}
        if limits or clear:
            changes["capacity"] = tuple(parse_limits(limits or ()))
        if enforce is not None:
            changes["enforce_capacity"] = enforce
        if changes:
            key = application.keys.update(connection, key, changes, by=COMMAND_LINE)
    for line in describe_limits(key.capacity) or ["no limits"]:
        typer.echo(line)
    if key.capacity and not key.enforce_capacity:
        typer.echo("They are not enforced.", err=True)


@app.command()
def disable(key_id: KeyId, data: Data = None) -> None:
    """Disable a key until it is enabled again."""
    _set_enabled(key_id, data, enabled=False)


@app.command()
def enable(key_id: KeyId, data: Data = None) -> None:
    """Enable a disabled key."""
    _set_enabled(key_id, data, enabled=True)


@app.command()
def revoke(
    key_id: KeyId,
    data: Data = None,
) -> None:
    """Revoke a key at once. This cannot be undone."""
    with open_data_directory(data) as application, application.database.transaction() as connection:
        key = application.keys.revoke(connection, key_id, by=COMMAND_LINE)
    typer.echo(f"{key.id} ({key.name}) is revoked.")


def _split(patterns: Patterns) -> tuple[str, ...]:
    return tuple(part for text in patterns or () for part in text.split(",") if part)


def _set_enabled(key_id: str, data: Path | None, *, enabled: bool) -> None:
    with open_data_directory(data) as application, application.database.transaction() as connection:
        key = application.keys.get(connection, None, key_id)
        key = application.keys.update(connection, key, {}, enabled=enabled, by=COMMAND_LINE)
    typer.echo(f"{key.id} ({key.name}) is {'enabled' if enabled else 'disabled'}.")


def _issue_secret(application: Application, connection: sa.Connection, key: Key) -> str | None:
    """Return a signing secret for a new key that requires signatures, None for another."""
    if not key.requires_signature:
        return None
    return application.unlock(connection).signing_secrets.issue(connection, key, by=COMMAND_LINE)


def _show_token(issued: IssuedKey, *, as_json: bool, signing_secret: str | None = None) -> None:
    if as_json:
        shown: dict[str, Any] = {"token": issued.token, "key": issued.key}
        if signing_secret is not None:
            shown["signing_secret"] = signing_secret
        typer.echo(msgspec.json.encode(shown))
        return
    typer.echo(issued.token)
    if signing_secret is not None:
        typer.echo(signing_secret)
        typer.echo("The second line is the signing secret.", err=True)
    typer.echo(
        f"This is the token of {issued.key.id}. Store it now: it is not shown again.", err=True
    )


def _describe(name: str, value: Any) -> str:
    if value is None or value in ((), {}, 0):
        return "-"
    if name.endswith("_at"):
        return format_time(value)
    if name == "monthly_budget_nano":
        return f"{format_dollars(value)} dollars"
    if name == "capacity":
        return ", ".join(describe_limits(value))
    if isinstance(value, enum.Enum):
        return str(value.value)
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def _parse_labels(texts: list[str]) -> dict[str, str]:
    labels: dict[str, str] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not name or not separator:
            raise InvalidOptionError(f"{text!r} is not a label. Write name=text.")
        labels[name] = value
    return labels


def _parse_budget(dollars: str | None) -> int | None:
    if dollars is None:
        return None
    try:
        nano = nano_from_dollars(dollars)
    except (ValueError, ArithmeticError) as error:
        raise InvalidOptionError(
            f"{dollars!r} is not an amount of dollars such as 25.00."
        ) from error
    if not 0 <= nano < LIMIT_NANO_END:
        raise InvalidOptionError("A budget is 0 to 999999999 dollars.")
    return nano
