"""`headgate mcp-servers`: register MCP servers, judge their tools, remove them."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import sqlalchemy as sa
import typer
from rich.table import Table

from headgate.audit.model import COMMAND_LINE
from headgate.cli.credentials import read_secret
from headgate.cli.data_directory import open_data_directory
from headgate.cli.options import Data, Json, format_time
from headgate.cli.tables import print_table
from headgate.main.application import Application
from headgate.mcp_servers.model.errors import InvalidMcpServerError
from headgate.mcp_servers.model.server import (
    TIMEOUT_SECONDS,
    McpAuthentication,
    McpServer,
    McpServerRequest,
    parse_address,
    suggest_name,
)
from headgate.mcp_servers.model.tool import PinnedTool

LISTED_MAX = 10_000
SHOWN_CHARACTERS_MAX = 2_000

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Register MCP servers, and approve what their tools are.",
)

ServerName = Annotated[str, typer.Argument(help="Name or id of the server.")]
ToolNames = Annotated[
    list[str] | None, typer.Argument(help="Names of the tools, as the server writes them.")
]
Organization = Annotated[
    str | None, typer.Option(help="Organization id; needed where there are several.")
]


@app.command("list")
def list_servers(
    data: Data = None, as_json: Json = False, organization: Organization = None
) -> None:
    """List the MCP servers of an organization, without their secrets."""
    with open_data_directory(data) as application, application.database.reading() as connection:
        servers, _ = application.unlock(connection).mcp_servers.list(
            connection, find_owner(application, connection, organization), limit=LISTED_MAX
        )
    if as_json:
        typer.echo(msgspec.json.encode(servers))
        return
    table = Table("Name", "Id", "Address", "State", "Discovered")
    for server in servers:
        state = _describe_state(server)
        table.add_row(server.name, server.id, server.url, state, format_time(server.discovered_at))
    print_table(table)


@app.command()
def add(
    url: Annotated[str, typer.Argument(help="Address of the server, with https.")],
    data: Data = None,
    as_json: Json = False,
    *,
    name: Annotated[
        str | None, typer.Option(help="Begins the names of its tools. Default: by its address.")
    ] = None,
    header: Annotated[
        list[str] | None,
        typer.Option(
            help="Header as `Name: value`, whose value may contain {{vault:name}}; can be repeated."
        ),
    ] = None,
    token_stdin: Annotated[
        bool, typer.Option("--token-stdin", help="Read a bearer token from standard input.")
    ] = False,
    per_person: Annotated[
        bool, typer.Option("--per-person", help="Call it with the token of the person who calls.")
    ] = False,
    approve_first: Annotated[
        bool, typer.Option("--approve-first", help="Approve the tools of the first discovery.")
    ] = False,
    timeout_seconds: Annotated[float, typer.Option(help="Time-out of one call.")] = TIMEOUT_SECONDS,
    organization: Organization = None,
) -> None:
    """Register a server. The running Headgate asks it for its tools within seconds."""
    headers = dict(_parse_header(each) for each in header or ())
    if token_stdin:
        token = read_secret(stdin=True, file=None, option="token")
        headers["authorization"] = f"Bearer {token}"
    authentication = McpAuthentication.PERSON if per_person else McpAuthentication.SHARED
    with open_data_directory(data) as application, application.database.transaction() as connection:
        request = McpServerRequest(
            organization_id=find_owner(application, connection, organization),
            name=name or suggest_name(parse_address(url)[0]),
            url=url,
            headers=headers,
            authentication=authentication,
            approve_first=approve_first,
            timeout_seconds=timeout_seconds,
        )
        service = application.unlock(connection).mcp_servers
        server = service.create(connection, request, by=COMMAND_LINE)
    if as_json:
        typer.echo(msgspec.json.encode(server))
        return
    typer.echo(f"{server.name} ({server.id}) is registered; its tools are {server.name}_…")


@app.command()
def tools(
    server_name: ServerName,
    data: Data = None,
    as_json: Json = False,
    organization: Organization = None,
) -> None:
    """List the tools of a server, and what changed in those that were approved."""
    with open_data_directory(data) as application, application.database.reading() as connection:
        server = _find(application, connection, organization, server_name)
        found, _ = application.mcp_tools.list(connection, server, limit=LISTED_MAX)
    if as_json:
        typer.echo(msgspec.json.encode([_describe_tool(server, each) for each in found]))
        return
    table = Table("Tool", "As agents see it", "Status", "Hash", "Changes")
    for tool in found:
        changes = ", ".join(each.path for each in tool.find_changes())
        shown = tool.make_name(server.name)
        table.add_row(tool.name, shown, tool.status.value, tool.hash[:12], changes)
    print_table(table)
    for tool in found:
        for change in tool.find_changes():
            typer.echo(f"{tool.name}, {change.path}:")
            typer.echo(f"  - {_shorten(change.before)}\n  + {_shorten(change.after)}")
    if server.discovery_error:
        typer.echo(f"The last discovery failed: {server.discovery_error}")


@app.command()
def approve(
    server_name: ServerName,
    names: ToolNames = None,
    data: Data = None,
    organization: Organization = None,
) -> None:
    """Approve tools as they are now; without names, every tool that waits for it."""
    with open_data_directory(data) as application, application.database.transaction() as connection:
        server = _find(application, connection, organization, server_name)
        service = application.mcp_tools
        if names:
            chosen = [service.get(connection, server, each) for each in names]
        else:
            chosen = service.list_unapproved(connection, server)
        hashes = {each.name: each.hash for each in chosen}
        approved = service.approve(connection, server, hashes, by=COMMAND_LINE)
    for tool in approved:
        typer.echo(f"{tool.make_name(server.name)} is approved ({tool.hash[:12]}).")
    if not approved:
        typer.echo("No tool waits for an approval.")


@app.command()
def block(
    server_name: ServerName,
    tool_name: Annotated[str, typer.Argument(help="Name of the tool.")],
    data: Data = None,
    organization: Organization = None,
) -> None:
    """Hide a tool from all agents until it is approved again."""
    with open_data_directory(data) as application, application.database.transaction() as connection:
        server = _find(application, connection, organization, server_name)
        tool = application.mcp_tools.block(connection, server, tool_name, by=COMMAND_LINE)
    typer.echo(f"{tool.make_name(server.name)} is blocked.")


@app.command()
def refresh(server_name: ServerName, data: Data = None, organization: Organization = None) -> None:
    """Let the running Headgate ask a server for its tools again, within seconds."""
    with open_data_directory(data) as application, application.database.transaction() as connection:
        server = _find(application, connection, organization, server_name)
        application.mcp_servers.request_refresh(connection, server)
    typer.echo(f"{server.name} is asked again within seconds.")


@app.command()
def remove(server_name: ServerName, data: Data = None, organization: Organization = None) -> None:
    """Delete a server with its secrets and its tools."""
    with open_data_directory(data) as application, application.database.transaction() as connection:
        server = _find(application, connection, organization, server_name)
        application.mcp_servers.delete(connection, server, by=COMMAND_LINE)
    typer.echo(f"{server.name} is removed.")


def find_owner(
    application: Application, connection: sa.Connection, organization: str | None
) -> str:
    return application.accounts.find_organization(connection, organization).id


def _find(
    application: Application, connection: sa.Connection, organization: str | None, text: str
) -> McpServer:
    owner = find_owner(application, connection, organization)
    return application.unlock(connection).mcp_servers.find(connection, owner, text)


def _parse_header(text: str) -> tuple[str, str]:
    name, mark, value = text.partition(":")
    if not mark or not value.strip():
        raise InvalidMcpServerError("A header is written `Name: value`.", param="headers")
    return name.strip(), value.strip()


def _shorten(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= SHOWN_CHARACTERS_MAX else f"{text[:SHOWN_CHARACTERS_MAX]}…"


def _describe_state(server: McpServer) -> str:
    if server.disabled_at is not None:
        return "disabled"
    if server.discovery_error:
        return "failing"
    return server.protocol_version or "new"


def _describe_tool(server: McpServer, tool: PinnedTool) -> dict[str, Any]:
    described: dict[str, Any] = msgspec.to_builtins(tool)
    changes = [msgspec.structs.asdict(each) for each in tool.find_changes()]
    more = {"status": tool.status.value, "hash": tool.hash, "changes": changes}
    return {**described, "tool_name": tool.make_name(server.name), **more}
