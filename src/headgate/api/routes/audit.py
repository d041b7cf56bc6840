"""Who did what to which object, from where."""

from __future__ import annotations

import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from headgate.api.access import organization
from headgate.api.operation import Operations, RequestContext
from headgate.api.pages import PageQuery
from headgate.api.shapes import Empty, Timestamp, to_datetime, to_timestamp
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
async def list_audit_entries(context: RequestContext[AuditQuery, Empty]) -> AuditPage:
    """The audit log of the organization. `headgate audit verify` checks its chain of hashes."""
    query = context.query
    audit_filter = AuditFilter(
        organization_id=context.organization_id,
        object_id=query.object_id,
        actor_id=query.actor_id,
        action=query.action,
        since=to_timestamp(query.since),
        until=to_timestamp(query.until),
    )
    entries, total = await context.read(
        lambda connection: context.services.audit.list(
            connection, audit_filter, limit=query.limit, offset=query.offset
        )
    )
    return AuditPage(
        [to_audit_entry_response(entry) for entry in entries], total, query.limit, query.offset
    )


def to_audit_entry_response(entry: AuditEntry) -> AuditEntryResponse:
    """An entry as the API writes it."""
    actor, event = entry.actor, entry.event
    return AuditEntryResponse(
        number=entry.number,
        at=to_datetime(entry.at),
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
