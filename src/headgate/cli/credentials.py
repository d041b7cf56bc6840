"""The commands of `headgate credentials`: add, list, test and remove provider credentials."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.table import Table

from headgate.accounts.model import AccountNotFoundError
from headgate.audit.model import COMMAND_LINE
from headgate.cli.capacity_limits import Clear, Limits, describe_limits, parse_limits
from headgate.cli.data_directory import open_data_directory
from headgate.cli.options import Data, Json, format_time, parse_expiry
from headgate.cli.tables import print_table
from headgate.credentials.model.credential import (
    MANAGED_INTEGRATION,
    STREAM_USAGE_ASK,
    CredentialChange,
    CredentialRequest,
)
from headgate.credentials.model.integration import CredentialTestCall
from headgate.credentials.service import CredentialTestResult, run_credential_test
from headgate.main.application import Application
from headgate.main.egress import open_client
from headgate.relay.capacity_limits import CapacityEntry
from headgate.relay.ports import Credential
from headgate.vault.model.base_url import InvalidCredentialError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Add, list, test and remove provider credentials.",
)

Reference = Annotated[str, typer.Argument(help="Id or name.")]
FirstByteSeconds = Annotated[
    float | None,
    typer.Option(help="Seconds until an answer begins. Default: the model's, else the settings'."),
]
IdleSeconds = Annotated[
    float | None,
    typer.Option(
        help="Seconds between two parts of an answer. Default: the model's, else the settings'."
    ),
]
TotalSeconds = Annotated[
    float | None,
    typer.Option(
        help="Seconds for a call with its retries. Default: the model's, else the settings'."
    ),
]


@app.command()
def add(
    integration: Annotated[
        str, typer.Argument(help="Integration of the secret: openai, mistral, ... or your own.")
    ],
    data: Data = None,
    as_json: Json = False,
    *,
    api_key_stdin: Annotated[
        bool, typer.Option("--api-key-stdin", help="Read the secret from standard input.")
    ] = False,
    api_key_file: Annotated[
        Path | None, typer.Option(help="Read the secret from a file; `-` is standard input.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Default: the name of the integration.")] = None,
    base_url: Annotated[
        str | None, typer.Option(help="Default: the address of the provider.")
    ] = None,
    organization: Annotated[
        str | None, typer.Option(help="Id or name. Default: the oldest organization.")
    ] = None,
    provider_organization: Annotated[
        str | None, typer.Option(help="Sent as the provider's organization header.")
    ] = None,
    default: Annotated[
        bool, typer.Option("--default", help="Use it for calls that name no credential.")
    ] = False,
    managed: Annotated[
        bool, typer.Option("--managed", help="Owned by the platform: calls are paid with credits.")
    ] = False,
    expires: Annotated[str | None, typer.Option(help="90d, 12h, or an ISO 8601 time.")] = None,
    stream_usage: Annotated[
        str, typer.Option(help="ask or never: ask the provider for the usage of streams.")
    ] = STREAM_USAGE_ASK,
    first_byte_seconds: FirstByteSeconds = None,
    idle_seconds: IdleSeconds = None,
    total_seconds: TotalSeconds = None,
) -> None:
    """Seal a provider secret. It is read from a prompt, a pipe or a file, and never shown again."""
    secret = read_secret(stdin=api_key_stdin, file=api_key_file)
    with open_data_directory(data) as application, application.database.transaction() as connection:
        service = application.unlock(connection).credentials
        owner = None
        if not managed:
            known = application.accounts.list_organizations(connection)
            found = [each for each in known if organization in (None, each.id, each.name)]
            if not found:
                raise AccountNotFoundError(f"There is no organization {organization!r}.")
            owner = found[0].id
        record = service.add(
            connection,
            CredentialRequest(
                organization_id=owner,
                integration=integration,
                secret=secret,
                name=name,
                base_url=base_url,
                provider_organization=provider_organization,
                is_default=default,
                expires_at=parse_expiry(expires, application.clock.now()),
                stream_usage=stream_usage,
                first_byte_seconds=first_byte_seconds,
                idle_seconds=idle_seconds,
                total_seconds=total_seconds,
            ),
            by=COMMAND_LINE,
        )
    if as_json:
        typer.echo(msgspec.json.encode(record))
        return
    typer.echo(f"{record.id} ({record.name}, {record.hint}) is sealed for {record.base_url}.")


@app.command("list")
def list_credentials(data: Data = None, as_json: Json = False) -> None:
    """List all credentials, with their secrets masked."""
    with open_data_directory(data) as application, application.database.reading() as connection:
        records = application.unlock(connection).credentials.list(connection)
    if as_json:
        typer.echo(msgspec.json.encode(records))
        return
    table = Table("Id", "Integration", "Name", "Secret", "Base URL", "Owner", "Last used")
    for record in records:
        table.add_row(
            record.id,
            record.integration,
            record.name + (" (default)" if record.is_default else ""),
            record.hint,
            record.base_url,
            record.organization_id or f"platform ({MANAGED_INTEGRATION})",
            format_time(record.last_used_at),
        )
    print_table(table)


@app.command("test")
def run_test(credential: Reference, data: Data = None, as_json: Json = False) -> None:
    """Test a credential with one small call, which costs a few tokens. Exit with 1 if it fails."""
    with open_data_directory(data) as application:
        opened, call = _open(application, credential)
        result = asyncio.run(_test(application, opened, call))
    typer.echo(msgspec.json.encode(result) if as_json else result.message)
    if not result.is_valid:
        raise typer.Exit(1)


@app.command()
def capacity(
    credential: Reference, limits: Limits = None, data: Data = None, *, clear: Clear = False
) -> None:
    """Show the limits of a credential's capacity, or replace them."""
    with open_data_directory(data) as application, application.database.transaction() as connection:
        service = application.unlock(connection).credentials
        record = service.find(connection, credential)
        if limits or clear:
            entries = msgspec.to_builtins(parse_limits(limits or ()))
            record = service.update(
                connection, record, CredentialChange(capacity=entries), by=COMMAND_LINE
            )
    entries = msgspec.convert(record.capacity, list[CapacityEntry])
    for line in describe_limits(entries) or ["no limits"]:
        typer.echo(line)


@app.command()
def remove(credential: Reference, data: Data = None) -> None:
    """Delete the secret of a credential for good. Calls that name the credential fail
    afterwards."""
    with open_data_directory(data) as application, application.database.transaction() as connection:
        service = application.unlock(connection).credentials
        record = service.find(connection, credential)
        if record.organization_id is not None:
            application.resources.check_unused(connection, record.organization_id, record.id)
        service.remove(connection, record, by=COMMAND_LINE)
    typer.echo(f"{record.id} ({record.name}) is removed.")


def read_secret(*, stdin: bool, file: Path | None, option: str = "api-key") -> str:
    """Read a secret from standard input, a file or a prompt.

    Raise `InvalidCredentialError` for a file that cannot be read, and without a terminal.
    """
    if stdin or file == Path("-"):
        return sys.stdin.read().strip()
    if file is not None:
        try:
            return file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidCredentialError(f"The file {file} cannot be read: {error}") from error
    if not sys.stdin.isatty():
        message = f"Pipe the secret in with --{option}-stdin, or give --{option}-file."
        raise InvalidCredentialError(message, param="api_key")
    return typer.prompt("Secret", hide_input=True)


def _open(application: Application, reference: str) -> tuple[Credential, CredentialTestCall]:
    with application.database.reading() as connection:
        record = application.unlock(connection).credentials.find(connection, reference)
        resolver = application.unlock(connection).credential_resolver
        resolver.load(connection)
    owner = record.organization_id or ""
    opened = resolver.resolve(owner, integration=record.integration, name=record.id)
    return opened, application.catalog.integrations[record.integration].test_call


async def _test(
    application: Application, credential: Credential, call: CredentialTestCall
) -> CredentialTestResult:
    client = open_client(application.settings, application.egress_rules)
    try:
        return await run_credential_test(client, credential, call)
    finally:
        await client.close()
