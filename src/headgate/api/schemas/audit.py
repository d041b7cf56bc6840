"""Entries of the audit log as the platform API writes them."""

from __future__ import annotations

import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from headgate.api.schemas.fields import Timestamp, to_datetime
from headgate.api.schemas.pages import Page, PageQuery
from headgate.audit.model import AuditEntry

Words = Annotated[str, Meta(min_length=1, max_length=200)]


class AuditQuery(PageQuery, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Select entries of the audit log."""

    object_id: Words | None = None
    actor_id: Words | None = None
    action: Annotated[Words, Meta(examples=["key.revoked"])] | None = None
    since: Timestamp | None = None
    until: Timestamp | None = None


class AuditEntryResponse(msgspec.Struct):
    """An entry of the audit log. `hash` covers this entry and, through `previous_hash`, all entries
    before it."""

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


class AuditPage(Page):
    """A page of audit log entries, newest first."""

    entries: list[AuditEntryResponse]


def to_audit_entry_response(entry: AuditEntry) -> AuditEntryResponse:
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
