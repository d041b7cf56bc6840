"""Register, change and remove MCP servers, and store the tokens of people."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec.structs import replace

from headgate.audit.model import Actor
from headgate.audit.service import AuditLog
from headgate.kit.clock import Clock
from headgate.kit.http.errors import ForbiddenAddressError
from headgate.kit.http.guard import EgressRules
from headgate.mcp_servers.model.errors import (
    InvalidMcpServerError,
    McpServerExistsError,
    McpServerNotFoundError,
    TooManyMcpServersError,
)
from headgate.mcp_servers.model.server import (
    McpAuthentication,
    McpServer,
    McpServerRequest,
    check_description,
    check_headers,
    check_limits,
    check_name,
    check_token,
    parse_address,
)
from headgate.mcp_servers.service.audit_events import record_event
from headgate.mcp_servers.service.index import to_bound
from headgate.mcp_servers.store import servers as server_store
from headgate.mcp_servers.store import tools as tool_store
from headgate.mcp_servers.store.servers import McpSecretRecord
from headgate.vault.service import Sealer, seal_mcp_secret

PURPOSE = "mcp_servers"
"""The egress rule of calls to MCP servers, whose connections serve nothing else."""
RESERVED_NAMES = frozenset(
    {
        *("call", "execute", "get", "headgate", "list", "mcp", "read", "remove", "search", "setup"),
        "upload",
    }
)
"""First words of the names of Headgate's own tools."""
NO_PERSON = ""
_CHANGEABLE = (
    "name",
    "url",
    "description",
    "authentication",
    "header_names",
    "timeout_seconds",
    "requests_per_minute",
    "disabled_at",
)


class McpServerService:
    """Manage the MCP servers of organizations. The caller commits."""

    def __init__(
        self,
        sealer: Sealer,
        *,
        egress_rules: EgressRules,
        clock: Clock,
        audit: AuditLog,
        servers_max: int,
        reserved_names: frozenset[str] = frozenset(),
    ) -> None:
        """`reserved_names` begin the names of other tools."""
        self._sealer = sealer
        self._rule = egress_rules.find(PURPOSE)
        self._clock = clock
        self._audit = audit
        self._reserved = RESERVED_NAMES | {
            name.replace("-", "_").partition("_")[0] for name in reserved_names
        }
        self.servers_max = servers_max
        """The maximum number of servers of an organization."""

    def create(
        self, connection: sa.Connection, request: McpServerRequest, *, by: Actor
    ) -> McpServer:
        """Register a server. Its tools are discovered next, and then the guard judges to what a
        name leads.

        Raise `InvalidMcpServerError`, `McpServerExistsError` and `TooManyMcpServersError`.
        """
        server, headers = self._check_request(request)
        # First: concurrent writers wait here, and then count this server.
        server_store.note_change(connection)
        owner = request.organization_id
        _, total = server_store.select_servers(connection, owner, limit=1, offset=0)
        if total >= self.servers_max:
            raise TooManyMcpServersError(
                f"The organization has the maximum of {self.servers_max} MCP servers."
            )
        self._check_free(connection, owner, server.name)
        server_store.insert_server(connection, server)
        self._store_headers(connection, server, headers)
        record_event(self._audit, connection, by, "mcp_server.created", server, _describe(server))
        return server

    def _check_request(self, request: McpServerRequest) -> tuple[McpServer, dict[str, str]]:
        """Return the server and its headers. Raise `InvalidMcpServerError`."""
        self._check_url(request.url)
        check_limits(request.timeout_seconds, request.requests_per_minute)
        headers = check_headers(request.headers)
        now = self._clock.now()
        server = McpServer(
            id=f"mcps_{secrets.token_hex(12)}",
            organization_id=request.organization_id,
            name=check_name(request.name, self._reserved),
            url=request.url,
            description=check_description(request.description),
            authentication=request.authentication,
            header_names=tuple(sorted(headers)),
            approve_first=request.approve_first,
            timeout_seconds=request.timeout_seconds,
            requests_per_minute=request.requests_per_minute,
            refresh_at=now,
            created_at=now,
            updated_at=now,
        )
        return server, headers

    def update(
        self,
        connection: sa.Connection,
        server: McpServer,
        changes: Mapping[str, Any],
        *,
        headers: Mapping[str, str] | None = None,
        enabled: bool | None = None,
        by: Actor,
    ) -> McpServer:
        """Change fields of a server, replace its headers, enable or disable it. Raise as `create`.

        Secrets are bound to the origin: another one drops the tokens of people, and wants the
        headers again. What was approved stays approved only for the address that offered it.
        """
        server_store.lock_server(connection, server)
        after = replace(server, **changes)
        moves = self._check_change(connection, server, after, headers)
        if headers is not None:
            headers = check_headers(headers)
            after = replace(after, header_names=tuple(sorted(headers)))
        if enabled is not None:
            stopped_at = server.disabled_at or self._clock.now()
            after = replace(after, disabled_at=None if enabled else stopped_at)
        changed = {
            name: getattr(after, name)
            for name in _CHANGEABLE
            if getattr(after, name) != getattr(server, name)
        }
        if not changed and headers is None:
            return server
        now = self._clock.now()
        values = {**changed, "updated_at": now, "refresh_at": now}
        if moves:
            values.update(protocol_version="", discovered_at=None, discovery_error="")
            server_store.delete_secret(connection, server.id, None)
            tool_store.delete_tools(connection, server)
        server_store.update_server(connection, server, values)
        if headers is not None:
            server_store.delete_secret(connection, server.id, NO_PERSON)
            self._store_headers(connection, after, headers)
        record_event(self._audit, connection, by, "mcp_server.updated", server, changed)
        return self.get(connection, server.organization_id, server.id)

    def _check_change(
        self,
        connection: sa.Connection,
        before: McpServer,
        after: McpServer,
        headers: Mapping[str, str] | None,
    ) -> bool:
        """Return whether the server moves to another origin. Raise as `create`."""
        if after.name != before.name:
            check_name(after.name, self._reserved)
            self._check_free(connection, before.organization_id, after.name)
        check_description(after.description)
        check_limits(after.timeout_seconds, after.requests_per_minute)
        if after.url == before.url:
            return False
        self._check_url(after.url)
        if after.origin == before.origin:
            return False
        if before.header_names and headers is None:
            raise InvalidMcpServerError(
                "The headers were meant for another address. Give them again, or {} for none.",
                param="headers",
            )
        return True

    def delete(self, connection: sa.Connection, server: McpServer, *, by: Actor) -> None:
        """Delete a server with its secrets and its tools."""
        server_store.lock_server(connection, server)
        tool_store.delete_tools(connection, server)
        server_store.delete_server(connection, server)
        changes = {"name": server.name, "url": server.url}
        record_event(self._audit, connection, by, "mcp_server.deleted", server, changes)

    def get(
        self, connection: sa.Connection, organization_id: str | None, server_id: str
    ) -> McpServer:
        """Return a server of this organization, or of any for None. Raise
        `McpServerNotFoundError`."""
        found = server_store.select_server(connection, server_id, organization_id=organization_id)
        if found is None:
            raise McpServerNotFoundError("There is no such MCP server.")
        return found

    def find(self, connection: sa.Connection, organization_id: str, text: str) -> McpServer:
        """Return a server by its id or its name. Raise `McpServerNotFoundError`."""
        found = server_store.find_server_by_name(connection, organization_id, text)
        return found or self.get(connection, organization_id, text)

    def list(
        self, connection: sa.Connection, organization_id: str, *, limit: int, offset: int = 0
    ) -> tuple[list[McpServer], int]:
        """Return a page of the servers of an organization, by name, and the total."""
        return server_store.select_servers(connection, organization_id, limit=limit, offset=offset)

    def request_refresh(self, connection: sa.Connection, server: McpServer) -> None:
        """Let the next server process that looks discover the tools of a server again."""
        values = {"refresh_at": self._clock.now()}
        server_store.update_discovery(connection, server, values)

    def put_token(
        self,
        connection: sa.Connection,
        server: McpServer,
        person_id: str,
        token: str,
        *,
        by: Actor,
    ) -> None:
        """Store the token with which a person's calls reach a server. Raise
        `InvalidMcpServerError`."""
        if server.authentication is not McpAuthentication.PERSON:
            raise InvalidMcpServerError(
                "This server is called with the organization's headers, and takes no tokens of "
                "people.",
                param="token",
            )
        self._store_secret(connection, server, person_id, check_token(token).encode())
        changes = {"person_id": person_id}
        record_event(self._audit, connection, by, "mcp_server_token.stored", server, changes)

    def remove_token(
        self, connection: sa.Connection, server: McpServer, person_id: str, *, by: Actor
    ) -> bool:
        """Delete a person's token; return whether there was one."""
        if not server_store.delete_secret(connection, server.id, person_id):
            return False
        changes = {"person_id": person_id}
        record_event(self._audit, connection, by, "mcp_server_token.removed", server, changes)
        return True

    def forget_person(self, connection: sa.Connection, organization_id: str, person_id: str) -> int:
        """Delete the tokens of a person who leaves the organization; return how many."""
        assert person_id != NO_PERSON, "headers are nobody's tokens"
        return server_store.delete_tokens(connection, organization_id, person_id)

    def _store_headers(
        self, connection: sa.Connection, server: McpServer, headers: Mapping[str, str]
    ) -> None:
        if headers:
            self._store_secret(connection, server, NO_PERSON, msgspec.json.encode(headers))

    def _store_secret(
        self, connection: sa.Connection, server: McpServer, person_id: str, secret: bytes
    ) -> None:
        key_id, key = self._sealer.current_key(connection, server.organization_id)
        record = McpSecretRecord(
            id=f"mcpx_{secrets.token_hex(12)}",
            organization_id=server.organization_id,
            server_id=server.id,
            person_id=person_id,
            name=server.name,
            origin=str(server.origin),
            key_id=key_id,
            seal_number=1,
            created_at=self._clock.now(),
            sealed=b"",
        )
        sealed = seal_mcp_secret(key, secret, to_bound(record))
        server_store.put_secret(connection, replace(record, sealed=sealed))

    def _check_free(self, connection: sa.Connection, organization_id: str, name: str) -> None:
        if server_store.find_server_by_name(connection, organization_id, name) is not None:
            raise McpServerExistsError(f"There is an MCP server {name!r} already.", param="name")

    def _check_url(self, url: str) -> None:
        try:
            self._rule.check(parse_address(url)[0])
        except ForbiddenAddressError as error:
            raise InvalidMcpServerError(str(error), param="url") from error


def _describe(server: McpServer) -> dict[str, Any]:
    shown = {name: value for name in _CHANGEABLE if (value := getattr(server, name))}
    return {**shown, "approve_first": server.approve_first}
