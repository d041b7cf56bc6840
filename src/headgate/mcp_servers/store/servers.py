"""The SQL of registered MCP servers, their sealed headers, and the tokens of people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from headgate.kit.db.schema import METADATA, bump_revision, count_rows, declare_unique
from headgate.mcp_servers.model.server import McpAuthentication, McpServer

TOPIC = "mcp_servers"
NEVER = 1e11
"""A time that does not come: in the year 5138."""

SERVERS = sa.Table(
    "mcp_servers",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column(
        "organization_id", sa.Text, sa.ForeignKey("organizations.id"), nullable=False, index=True
    ),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("authentication", sa.Text, nullable=False),
    sa.Column("header_names", sa.JSON, nullable=False),
    sa.Column("approve_first", sa.Boolean, nullable=False),
    sa.Column("timeout_seconds", sa.Double, nullable=False),
    sa.Column("requests_per_minute", sa.Integer),
    sa.Column("disabled_at", sa.Double),
    sa.Column("protocol_version", sa.Text, nullable=False),
    sa.Column("server_title", sa.Text, nullable=False),
    sa.Column("server_version", sa.Text, nullable=False),
    sa.Column("discovered_at", sa.Double),
    sa.Column("discovery_error", sa.Text, nullable=False),
    sa.Column("skipped", sa.JSON, nullable=False),
    sa.Column("refresh_at", sa.Double, nullable=False, index=True),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("updated_at", sa.Double, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
)
declare_unique("uq_mcp_servers_name", SERVERS.c.organization_id, SERVERS.c.name)
SECRETS = sa.Table(
    "mcp_server_secrets",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("organization_id", sa.Text, sa.ForeignKey("organizations.id"), nullable=False),
    sa.Column("server_id", sa.Text, sa.ForeignKey("mcp_servers.id"), nullable=False),
    sa.Column("person_id", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("origin", sa.Text, nullable=False),
    sa.Column("sealed", sa.LargeBinary),
    sa.Column("key_id", sa.Text, sa.ForeignKey("organization_keys.id"), nullable=False, index=True),
    sa.Column("seal_number", sa.BigInteger, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
)
declare_unique("uq_mcp_server_secrets_person", SECRETS.c.server_id, SECRETS.c.person_id)
_FIELDS = McpServer.__struct_fields__


class McpSecretRecord(msgspec.Struct, frozen=True):
    """Hold a sealed secret of a server: its headers, or with a person their token."""

    id: str
    organization_id: str
    server_id: str
    person_id: str
    name: str
    origin: str
    key_id: str
    seal_number: int
    created_at: float
    sealed: bytes

    def __repr__(self) -> str:
        return f"McpSecretRecord({self.id})"


_SECRET_FIELDS = McpSecretRecord.__struct_fields__


def note_change(connection: sa.Connection) -> None:
    """Let every process reload its servers."""
    bump_revision(connection, TOPIC)


def lock_server(connection: sa.Connection, server: McpServer) -> None:
    """Let one transaction after the other change a server and its tools. Lock first, then note a
    change: never the other way round."""
    connection.execute(sa.select(SERVERS.c.id).where(*_of(server)).with_for_update())


def insert_server(connection: sa.Connection, server: McpServer) -> None:
    connection.execute(sa.insert(SERVERS).values(**msgspec.to_builtins(server)))
    note_change(connection)


def update_server(connection: sa.Connection, server: McpServer, values: Mapping[str, Any]) -> None:
    """Change columns of a server: that is another version of it, which every process reads."""
    changed = {**msgspec.to_builtins(values), "version": SERVERS.c.version + 1}
    connection.execute(sa.update(SERVERS).where(*_of(server)).values(**changed))
    note_change(connection)


def update_discovery(
    connection: sa.Connection, server: McpServer, values: Mapping[str, Any]
) -> None:
    """Change columns that tell of discoveries; nobody has to read the server again for them."""
    changed: dict[str, Any] = msgspec.to_builtins(values)
    connection.execute(sa.update(SERVERS).where(*_of(server)).values(**changed))


def delete_server(connection: sa.Connection, server: McpServer) -> None:
    connection.execute(sa.delete(SECRETS).where(SECRETS.c.server_id == server.id))
    connection.execute(sa.delete(SERVERS).where(*_of(server)))
    note_change(connection)


def select_server(
    connection: sa.Connection, server_id: str, *, organization_id: str | None
) -> McpServer | None:
    """Return a server of the organization, or of any for None."""
    statement = sa.select(SERVERS).where(SERVERS.c.id == server_id)
    if organization_id is not None:
        statement = statement.where(SERVERS.c.organization_id == organization_id)
    row = connection.execute(statement).one_or_none()
    return None if row is None else _server(row)


def find_server_by_name(
    connection: sa.Connection, organization_id: str, name: str
) -> McpServer | None:
    statement = sa.select(SERVERS).where(
        SERVERS.c.organization_id == organization_id, SERVERS.c.name == name
    )
    row = connection.execute(statement).one_or_none()
    return None if row is None else _server(row)


def select_servers(
    connection: sa.Connection, organization_id: str, *, limit: int, offset: int
) -> tuple[list[McpServer], int]:
    """Return a page of an organization's servers, by name, and the total."""
    condition = SERVERS.c.organization_id == organization_id
    statement = sa.select(SERVERS).where(condition).order_by(SERVERS.c.name)
    rows = connection.execute(statement.limit(limit).offset(offset))
    return [_server(row) for row in rows], count_rows(connection, SERVERS, condition)


def select_enabled(connection: sa.Connection) -> Iterator[McpServer]:
    """Yield every server that is not disabled, by organization and name."""
    statement = sa.select(SERVERS).where(SERVERS.c.disabled_at.is_(None))
    for row in connection.execute(statement.order_by(SERVERS.c.organization_id, SERVERS.c.name)):
        yield _server(row)


def select_due(connection: sa.Connection, now: float, *, limit: int) -> list[McpServer]:
    """Return enabled servers whose refresh is due, the longest waiting first."""
    statement = (
        sa.select(SERVERS)
        .where(SERVERS.c.refresh_at <= now, SERVERS.c.disabled_at.is_(None))
        .order_by(SERVERS.c.refresh_at)
        .limit(limit)
    )
    return [_server(row) for row in connection.execute(statement)]


def claim_refresh(connection: sa.Connection, server: McpServer, *, until: float) -> bool:
    """Put the next refresh off; return whether no other process did that before."""
    statement = sa.update(SERVERS).where(
        SERVERS.c.id == server.id, SERVERS.c.refresh_at == server.refresh_at
    )
    return connection.execute(statement.values(refresh_at=until)).rowcount == 1


def put_off_refresh(connection: sa.Connection, server: McpServer) -> None:
    """Leave a server alone until somebody asks for its refresh."""
    statement = sa.update(SERVERS).where(SERVERS.c.id == server.id)
    connection.execute(statement.values(refresh_at=NEVER))


def put_secret(connection: sa.Connection, secret: McpSecretRecord) -> None:
    """Store a secret in the place of the one that its server and person have."""
    delete_secret(connection, secret.server_id, secret.person_id)
    connection.execute(sa.insert(SECRETS).values(**msgspec.structs.asdict(secret)))
    note_change(connection)


def delete_secret(connection: sa.Connection, server_id: str, person_id: str | None) -> int:
    """Delete the secret of a person, the headers for "", or all for None; return how many."""
    statement = sa.delete(SECRETS).where(SECRETS.c.server_id == server_id)
    if person_id is not None:
        statement = statement.where(SECRETS.c.person_id == person_id)
    count = connection.execute(statement).rowcount
    note_change(connection)
    return count


def delete_tokens(connection: sa.Connection, organization_id: str, person_id: str) -> int:
    """Delete what a person stored for the servers of an organization; return how many."""
    statement = sa.delete(SECRETS).where(
        SECRETS.c.organization_id == organization_id, SECRETS.c.person_id == person_id
    )
    count = connection.execute(statement).rowcount
    if count:
        note_change(connection)
    return count


def select_secrets(connection: sa.Connection) -> Iterator[McpSecretRecord]:
    for row in connection.execute(sa.select(SECRETS).where(SECRETS.c.sealed.is_not(None))):
        yield McpSecretRecord(*(getattr(row, name) for name in _SECRET_FIELDS))


def _of(server: McpServer) -> tuple[sa.ColumnElement[bool], ...]:
    return (SERVERS.c.id == server.id, SERVERS.c.organization_id == server.organization_id)


def _server(row: sa.Row[Any]) -> McpServer:
    fields = {name: getattr(row, name) for name in _FIELDS}
    fields["header_names"] = tuple(fields["header_names"])
    fields["skipped"] = tuple((name, reason) for name, reason in fields["skipped"])
    fields["authentication"] = McpAuthentication(fields["authentication"])
    return McpServer(**fields)
