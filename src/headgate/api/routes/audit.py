"""Who did what to which object, from where."""

from __future__ import annotations

import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from headgate.api.access import organization
from headgate.api.operation import Ask, Operations
from headgate.api.pages import PageQuery
from headgate.api.shapes import Nothing, Timestamp, read_time, show_time
from headgate.audit.model import AuditEntry, AuditFilter

OPERATIONS = Operations("Audit log", "Who did what to which object, from where.")

Words = Annotated[str, Meta(min_length=1, max_length=200)]


class AuditQuery(PageQuery, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which entries."""

    object_id: Words | None = None
    actor_id: Words | None = None
    action: Annotated[Words, Meta(examples=["key.revoked"])] | None = None
    since: Timestamp | None = None
    until: Timestamp | None = None


class AuditEntryResponse(msgspec.Struct):
    """One line. `hash` covers it and, by `previous_hash`, all before it."""

    number: int
    at: datetime.datetime
    action: str
    object_id: str
    actor_kind: str
    actor_id: str
    actor_name: str
    address: str
    user_agent: str
    changes: dict[str, Any]
    previous_hash: str
    hash: str


class AuditPage(msgspec.Struct):
    """The newest first."""

    entries: list[AuditEntryResponse]
    total: int
    limit: int
    offset: int


@OPERATIONS.get("/api/audit", access=organization("audit:read"), summary="Read the audit log")
async def list_audit_entries(ask: Ask[AuditQuery, Nothing]) -> AuditPage:
    """The audit log of the organization. `headgate audit verify` checks its chain of hashes."""
    query = ask.query
    audit_filter = AuditFilter(
        organization_id=ask.organization_id,
        object_id=query.object_id,
        actor_id=query.actor_id,
        action=query.action,
        since=read_time(query.since),
        until=read_time(query.until),
    )
    entries, total = await ask.read(
        lambda connection: ask.services.audit.list(
            connection, audit_filter, limit=query.limit, offset=query.offset
        )
    )
    return AuditPage([show_entry(entry) for entry in entries], total, query.limit, query.offset)


def show_entry(entry: AuditEntry) -> AuditEntryResponse:
    """An entry as the API writes it."""
    actor, event = entry.actor, entry.event
    return AuditEntryResponse(
        number=entry.number,
        at=show_time(entry.at),
        action=event.action,
        object_id=event.object_id,
        actor_kind=actor.kind.value,
        actor_id=actor.id,
        actor_name=actor.name,
        address=actor.address,
        user_agent=actor.user_agent,
        changes=event.changes,
        previous_hash=entry.previous_hash.hex(),
        hash=entry.hash.hex(),
    )
