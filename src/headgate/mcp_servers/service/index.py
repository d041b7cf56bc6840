"""The enabled servers in memory: where their tools are called, with what, and which are offered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec
import sqlalchemy as sa
import structlog

from headgate.connectors.model.tool import ToolDefinition
from headgate.kit.crypto import BrokenSealError, SecretKey
from headgate.kit.http.message import Origin
from headgate.mcp_servers.model.server import (
    McpServer,
    fill_references,
    list_references,
    parse_address,
)
from headgate.mcp_servers.model.tool import PinnedTool, ToolStatus
from headgate.mcp_servers.store import servers as server_store
from headgate.mcp_servers.store import tools as tool_store
from headgate.mcp_servers.store.servers import McpSecretRecord
from headgate.vault.model.sealed_row import McpSecretRow
from headgate.vault.model.secret import BrokenReferenceError
from headgate.vault.service import Sealer, open_mcp_secret
from headgate.vault.service.secrets import ReferencedSecrets, open_value

log = structlog.get_logger(__name__)

_Secrets = Mapping[str, Mapping[str, bytes]]
"""Opened secrets by server and person; those without a person are headers."""


class McpRoute(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what is needed to call a server. `fault` says why it cannot be called. `tokens` are
    those of people, by their id; `tools` are callable, by the names that agents see. `withdrawn`
    were approved and are not callable now."""

    server: McpServer
    origin: Origin
    target: bytes
    headers: Mapping[str, str] = {}
    fault: str = ""
    tokens: Mapping[str, str] = {}
    tools: Mapping[str, PinnedTool] = {}
    withdrawn: Mapping[str, PinnedTool] = {}

    def __repr__(self) -> str:
        return f"McpRoute({self.server.id})"


class McpServerIndex:
    """Hold the enabled servers of all organizations. `load` replaces everything at once."""

    def __init__(self) -> None:
        self.is_loaded = False
        self.has_references = False
        """Whether headers of any server refer to stored secrets, so that these matter here."""
        self._routes: Mapping[str, McpRoute] = {}
        self._definitions: Mapping[str, Sequence[ToolDefinition]] = {}
        self._places: Mapping[tuple[str, str], McpRoute] = {}
        self._opened: dict[str, bytes] = {}

    def find(self, server_id: str) -> McpRoute | None:
        """Return the route of an enabled server."""
        return self._routes.get(server_id)

    def find_tool(
        self, organization_id: str, shown_name: str
    ) -> tuple[McpRoute, PinnedTool] | None:
        """Return a callable tool with its server, by the name that agents see."""
        route = self._places.get((organization_id, shown_name))
        return None if route is None else (route, route.tools[shown_name])

    def find_withdrawn(
        self, organization_id: str, shown_name: str
    ) -> tuple[McpRoute, PinnedTool] | None:
        """Return a tool that was callable and is not now, with its server."""
        for route in self._routes.values():
            if route.server.organization_id == organization_id and shown_name in route.withdrawn:
                return route, route.withdrawn[shown_name]
        return None

    def list_tools(self, organization_id: str) -> Sequence[ToolDefinition]:
        """Return the callable tools of an organization, by server and name."""
        return self._definitions.get(organization_id, ())

    def load(self, connection: sa.Connection, sealer: Sealer) -> None:
        """Read all enabled servers. One whose headers do not open keeps its tools, and says so when
        it is called."""
        tools: dict[str, list[PinnedTool]] = {}
        for tool in tool_store.select_all(connection):
            tools.setdefault(tool.server_id, []).append(tool)
        secrets = self._load_secrets(connection, sealer)
        vault = _VaultReader(connection, sealer)
        routes: dict[str, McpRoute] = {}
        for server in server_store.select_enabled(connection):
            opened = secrets.get(server.id, {})
            routes[server.id] = _build_route(server, tools.get(server.id, ()), opened, vault)
        definitions: dict[str, list[ToolDefinition]] = {}
        places: dict[tuple[str, str], McpRoute] = {}
        for route in routes.values():
            owner = route.server.organization_id
            for shown_name, tool in route.tools.items():
                places[owner, shown_name] = route
                definitions.setdefault(owner, []).append(describe_tool(route.server, tool))
        self._routes, self._places, self._definitions = routes, places, definitions
        self.has_references = vault.was_used
        self.is_loaded = True

    def _load_secrets(self, connection: sa.Connection, sealer: Sealer) -> _Secrets:
        keys = None
        opened: dict[str, bytes] = {}
        found: dict[str, dict[str, bytes]] = {}
        for row in server_store.select_secrets(connection):
            secret = self._opened.get(row.id)
            if secret is None:
                keys = sealer.organization_keys(connection) if keys is None else keys
                try:
                    secret = open_mcp_secret(keys[row.key_id], row.sealed, to_bound(row))
                except (BrokenSealError, KeyError):
                    log.error("mcp_servers.secret_unreadable", server=row.server_id)
                    continue
            opened[row.id] = secret
            found.setdefault(row.server_id, {})[row.person_id] = secret
        self._opened = opened
        return found


class _VaultReader:
    """Read stored secrets that headers refer to, and only then."""

    def __init__(self, connection: sa.Connection, sealer: Sealer) -> None:
        self._connection = connection
        self._sealer = sealer
        self._keys: Mapping[str, SecretKey] | None = None
        self._stored = ReferencedSecrets(connection)

    @property
    def was_used(self) -> bool:
        return self._stored.is_read

    def read(self, server: McpServer, names: Iterable[str]) -> dict[str, str]:
        """Return the values of stored secrets. Raise `BrokenReferenceError`."""
        return {name: self._read_value(server, name) for name in names}

    def _read_value(self, server: McpServer, name: str) -> str:
        record, sealed = self._stored.find(
            server.organization_id, name, integration_base_url="", origin=server.origin
        )
        if self._keys is None:
            # After the secrets, so that the keys of all of them are here.
            self._keys = self._sealer.organization_keys(self._connection)
        try:
            return open_value(self._keys[record.key_id], sealed, record)
        except (BrokenSealError, KeyError) as error:
            message = f"the secret {name!r} cannot be opened"
            raise BrokenReferenceError(message) from error


def describe_tool(server: McpServer, tool: PinnedTool) -> ToolDefinition:
    """Return the approved definition of a tool, as agents see it.

    A server's word that a tool only reads is a hint for clients. It does not lower the scope.
    """
    approved = tool.approved
    assert approved is not None, "only approved tools are described"
    hints = approved.annotations
    is_read_only = hints.get("readOnlyHint") is True
    return ToolDefinition(
        name=tool.make_name(server.name),
        title=approved.title or hints.get("title") or approved.name,
        description=approved.description,
        input_schema=approved.input_schema,
        output_schema=approved.output_schema,
        is_read_only=is_read_only,
        is_destructive=not is_read_only and hints.get("destructiveHint", True) is True,
        is_idempotent=hints.get("idempotentHint") is True,
        is_open_world=hints.get("openWorldHint", True) is True,
        source=server.name,
    )


def to_bound(row: McpSecretRecord) -> McpSecretRow:
    """Return the fields that the seal of a secret is bound to."""
    return msgspec.convert(row, McpSecretRow, from_attributes=True)


def _build_route(
    server: McpServer,
    tools: Iterable[PinnedTool],
    secrets: Mapping[str, bytes],
    vault: _VaultReader,
) -> McpRoute:
    origin, target = parse_address(server.url)
    fault, headers = "", dict[str, str]()
    opened = secrets.get("")
    if opened is not None:
        headers = msgspec.json.decode(opened, type=dict[str, str])
    elif server.header_names:
        fault = "its headers cannot be opened with this master key"
    try:
        headers = fill_references(headers, vault.read(server, list_references(headers)))
    except BrokenReferenceError as error:
        fault, headers = error.message, {}
    callable_tools: dict[str, PinnedTool] = {}
    withdrawn: dict[str, PinnedTool] = {}
    for tool in tools:
        kept = callable_tools if tool.status is ToolStatus.APPROVED else withdrawn
        kept[tool.make_name(server.name)] = tool
    return McpRoute(
        server=server,
        origin=origin,
        target=target,
        headers=headers,
        fault=fault,
        tokens={person_id: each.decode() for person_id, each in secrets.items() if person_id},
        tools=callable_tools,
        withdrawn=withdrawn,
    )
