"""The SQL of pinned tools."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import sqlalchemy as sa

from headgate.kit.db.schema import METADATA, count_rows, declare_unique
from headgate.mcp_servers.model.definition import ToolDefinitionRecord
from headgate.mcp_servers.model.server import McpServer
from headgate.mcp_servers.model.tool import PinnedTool

TOOLS = sa.Table(
    "mcp_server_tools",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("organization_id", sa.Text, sa.ForeignKey("organizations.id"), nullable=False),
    sa.Column("server_id", sa.Text, sa.ForeignKey("mcp_servers.id"), nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("approved", sa.Text),
    sa.Column("offered", sa.Text),
    sa.Column("is_blocked", sa.Boolean, nullable=False),
    sa.Column("approved_by", sa.Text, nullable=False),
    sa.Column("approved_at", sa.Double),
    sa.Column("first_seen_at", sa.Double, nullable=False),
    sa.Column("last_seen_at", sa.Double, nullable=False),
)
declare_unique("uq_mcp_server_tools_name", TOOLS.c.server_id, TOOLS.c.name)

_FIELDS = PinnedTool.__struct_fields__
_DEFINITIONS = ("approved", "offered")
_encode = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder(ToolDefinitionRecord).decode


def insert_tool(connection: sa.Connection, tool: PinnedTool) -> None:
    connection.execute(sa.insert(TOOLS).values(**_flatten(tool)))


def update_tool(connection: sa.Connection, tool: PinnedTool) -> None:
    values = _flatten(tool)
    statement = sa.update(TOOLS).where(
        TOOLS.c.id == tool.id, TOOLS.c.organization_id == tool.organization_id
    )
    connection.execute(statement.values(**values))


def delete_tools(connection: sa.Connection, server: McpServer) -> None:
    connection.execute(sa.delete(TOOLS).where(TOOLS.c.server_id == server.id))


def delete_tool(connection: sa.Connection, tool: PinnedTool) -> None:
    connection.execute(sa.delete(TOOLS).where(TOOLS.c.id == tool.id))


def select_tools(
    connection: sa.Connection, server: McpServer, *, limit: int, offset: int = 0
) -> tuple[list[PinnedTool], int]:
    """Return a page of a server's tools, by name, and the total."""
    condition = TOOLS.c.server_id == server.id
    statement = sa.select(TOOLS).where(condition).order_by(TOOLS.c.name)
    rows = connection.execute(statement.limit(limit).offset(offset))
    return [_tool(row) for row in rows], count_rows(connection, TOOLS, condition)


def find_tool(connection: sa.Connection, server: McpServer, name: str) -> PinnedTool | None:
    statement = sa.select(TOOLS).where(TOOLS.c.server_id == server.id, TOOLS.c.name == name)
    row = connection.execute(statement).one_or_none()
    return None if row is None else _tool(row)


def select_all(connection: sa.Connection) -> Iterator[PinnedTool]:
    """Yield the tools of all servers, by name."""
    statement = sa.select(TOOLS).where(TOOLS.c.approved.is_not(None)).order_by(TOOLS.c.name)
    for row in connection.execute(statement):
        yield _tool(row)


def _flatten(tool: PinnedTool) -> dict[str, Any]:
    values = msgspec.structs.asdict(tool)
    for name in _DEFINITIONS:
        if values[name] is not None:
            values[name] = _encode(values[name]).decode()
    return values


def _tool(row: sa.Row[Any]) -> PinnedTool:
    fields = {name: getattr(row, name) for name in _FIELDS}
    for name in _DEFINITIONS:
        if fields[name] is not None:
            fields[name] = _decode(fields[name])
    return PinnedTool(**fields)
