"""Find requests and their bodies, and choose what a project keeps."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from headgate.audit.model import Actor, AuditEvent
from headgate.audit.service import AuditLog
from headgate.kit.clock import Clock
from headgate.kit.page_cursor import PageCursor
from headgate.request_log.model.entry import (
    RequestEntry,
    RequestFilter,
    RequestList,
    RequestNotFoundError,
)
from headgate.request_log.model.payload import StoredExchange
from headgate.request_log.model.settings import Mode, RequestLogSettings, check_settings
from headgate.request_log.service.index import RequestLogIndex
from headgate.request_log.service.payloads import open_payload
from headgate.request_log.store import entries, payloads
from headgate.request_log.store import settings as settings_store
from headgate.vault.service import Sealer


class RequestLogService:
    """Read the request log, and change what is kept. The caller commits. `RequestFilter` says which
    requests the reader may see."""

    def __init__(self, clock: Clock, audit: AuditLog, index: RequestLogIndex) -> None:
        self._clock = clock
        self._audit = audit
        self._index = index

    def list(
        self,
        connection: sa.Connection,
        filters: RequestFilter,
        *,
        after: PageCursor | None,
        limit: int,
    ) -> RequestList:
        """Return a page of requests, newest first."""
        return entries.list_page(connection, filters, after=after, limit=limit)

    def find(self, connection: sa.Connection, request_id: str) -> RequestEntry | None:
        """Return a request of any organization, for the operator."""
        return entries.find(connection, request_id)

    def get(
        self, connection: sa.Connection, visible: RequestFilter, request_id: str
    ) -> RequestEntry:
        """Return a request. Raise `RequestNotFoundError`, also for one of somebody else."""
        entry = entries.find(connection, request_id)
        if entry is None or not is_visible(entry, visible):
            raise RequestNotFoundError(f"The request log has no request {request_id[:200]!r}.")
        return entry

    def open_payload(
        self,
        connection: sa.Connection,
        sealer: Sealer,
        visible: RequestFilter,
        request_id: str,
    ) -> tuple[RequestEntry, StoredExchange]:
        """Return a request with its bodies. Raise `RequestNotFoundError` and
        `PayloadNotKeptError`."""
        entry = self.get(connection, visible, request_id)
        return entry, open_payload(connection, sealer, entry.id)

    def delete_payload(self, connection: sa.Connection, entry: RequestEntry, *, by: Actor) -> None:
        """Delete the bodies of a request for good; its row stays."""
        event = AuditEvent("request_payload.deleted", entry.organization_id, entry.id, {})
        self._audit.record(connection, by, event)
        payloads.delete(connection, [entry.id])
        entries.forget_payload(connection, entry.id)

    def note_replay(
        self, connection: sa.Connection, entry: RequestEntry, target: str, *, by: Actor
    ) -> None:
        """Record in the audit log that somebody sends a request again."""
        event = AuditEvent("request.replayed", entry.organization_id, entry.id, {"target": target})
        self._audit.record(connection, by, event)

    def read_settings(self, connection: sa.Connection, project_id: str) -> RequestLogSettings:
        """Return what a project keeps; the server's default where it has chosen nothing."""
        found = settings_store.find(connection, project_id)
        return self._index.default if found is None else found

    def change_settings(
        self,
        connection: sa.Connection,
        organization_id: str,
        project_id: str,
        *,
        mode: Mode | None,
        retention_days: int | None,
        by: Actor,
    ) -> RequestLogSettings:
        """Change what a project keeps; None leaves it. Raise `InvalidRequestLogError`."""
        before = self.read_settings(connection, project_id)
        after = check_settings(
            RequestLogSettings(
                before.mode if mode is None else mode,
                before.retention_days if retention_days is None else retention_days,
                before.version + 1,
            )
        )
        changes: dict[str, Any] = {
            name: [getattr(before, name), getattr(after, name)]
            for name in ("mode", "retention_days")
            if getattr(before, name) != getattr(after, name)
        }
        event = AuditEvent("request_log.changed", organization_id, project_id, changes)
        self._audit.record(connection, by, event)
        settings_store.save(connection, project_id, organization_id, after, now=self._clock.now())
        return after


def is_visible(entry: RequestEntry, visible: RequestFilter) -> bool:
    """Return whether a reader may see a request: one of its organization, projects and key."""
    return (
        entry.organization_id == visible.organization_id
        and (not visible.projects or entry.project_id in visible.projects)
        and visible.key_id in (None, entry.key_id)
    )
