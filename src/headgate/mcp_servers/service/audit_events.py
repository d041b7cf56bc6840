"""Record what happens to servers and their tools in the audit log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from headgate.audit.model import Actor, AuditEvent
from headgate.audit.service import AuditLog
from headgate.mcp_servers.model.server import McpServer


def record_event(
    audit: AuditLog,
    connection: sa.Connection,
    by: Actor,
    action: str,
    server: McpServer,
    changes: Mapping[str, Any],
) -> None:
    """Record an event of a server, with changes that may hold any of its values."""
    fields = msgspec.to_builtins(changes)
    audit.record(connection, by, AuditEvent(action, server.organization_id, server.id, fields))
