"""The audit log of an organization."""

from __future__ import annotations

from headgate.api.access import organization
from headgate.api.operation import Operations, RequestContext
from headgate.api.schemas.audit import AuditPage, AuditQuery, to_audit_entry_response
from headgate.api.schemas.fields import Empty, to_timestamp
from headgate.audit.model import AuditFilter

OPERATIONS = Operations("Audit log", "Who did what to which object, when, and from where.")


@OPERATIONS.get("/api/audit", access=organization("audit:read"), summary="Read the audit log")
async def list_audit_entries(context: RequestContext[AuditQuery, Empty]) -> AuditPage:
    """Return who did what to which object of the organization, when, and from which network
    address, newest first. The command `headgate audit verify` checks the hash chain of the whole
    log."""
    context.principal.check_organization_wide()
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
    return AuditPage([to_audit_entry_response(entry) for entry in entries], **query.position(total))
