"""The members of organizations, and who may change their roles."""

from __future__ import annotations

import sqlalchemy as sa

from headgate.accounts.model import (
    LastOwnerError,
    Member,
    PersonNotFoundError,
    Role,
    RoleNotAllowedError,
)
from headgate.accounts.model.person import ROLE_RANKS
from headgate.accounts.store import invitations, sessions, tenants
from headgate.accounts.store import people as store
from headgate.audit.model import Actor, AuditEvent
from headgate.audit.service import AuditLog


class MemberService:
    """Manage memberships. The caller commits the transaction."""

    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit

    def list(
        self, connection: sa.Connection, organization_id: str, *, limit: int, offset: int = 0
    ) -> tuple[list[Member], int]:
        """Return a page of the members, oldest first, and their total number."""
        return (
            store.select_members(connection, organization_id, limit=limit, offset=offset),
            store.count_members(connection, organization_id),
        )

    def get(self, connection: sa.Connection, organization_id: str, person_id: str) -> Member:
        """Return a member. Raise `PersonNotFoundError`."""
        member = store.select_member(connection, organization_id, person_id)
        if member is None:
            raise PersonNotFoundError("There is no such member.")
        return member

    def change_role(
        self,
        connection: sa.Connection,
        organization_id: str,
        member: Member,
        role: Role,
        *,
        by: Actor,
        by_role: Role,
    ) -> Member:
        """Change the member's role and end their sessions, unless they change their own.

        Raise `RoleNotAllowedError` where somebody who is not an owner makes or unmakes one or where
        somebody raises their own role, and `LastOwnerError` for the last owner.
        """
        if role is member.role:
            return member
        self._check_may_change_owner(member.role, role, by_role=by_role)
        if by.id == member.person_id and ROLE_RANKS[role] > ROLE_RANKS[member.role]:
            raise RoleNotAllowedError("You cannot raise your own role. Ask another owner.")
        self._check_not_last_owner(connection, organization_id, member)
        store.update_role(connection, organization_id, member.person_id, role)
        self._revoke_access(connection, organization_id, member, by=by)
        fields = {"role": role.value, "before": member.role.value}
        event = AuditEvent("member.updated", organization_id, member.person_id, fields)
        self._audit.record(connection, by, event)
        return self.get(connection, organization_id, member.person_id)

    def remove(
        self,
        connection: sa.Connection,
        organization_id: str,
        member: Member,
        *,
        by: Actor,
        by_role: Role,
    ) -> None:
        """Remove the member, end their sessions, and revoke the invitations that they sent. Raise
        `RoleNotAllowedError` and `LastOwnerError` as `change_role`."""
        if by.id != member.person_id:
            self._check_may_change_owner(member.role, Role.MEMBER, by_role=by_role)
        self._check_not_last_owner(connection, organization_id, member)
        store.delete_membership(connection, organization_id, member.person_id)
        self._revoke_access(connection, organization_id, member, by=by)
        fields = {"email": member.email, "role": member.role.value}
        event = AuditEvent("member.removed", organization_id, member.person_id, fields)
        self._audit.record(connection, by, event)

    def _check_may_change_owner(self, before: Role, after: Role, *, by_role: Role) -> None:
        if Role.OWNER in (before, after) and by_role is not Role.OWNER:
            raise RoleNotAllowedError(
                "Only an owner can make somebody an owner or change the role of one."
            )

    def _check_not_last_owner(
        self, connection: sa.Connection, organization_id: str, member: Member
    ) -> None:
        if member.role is not Role.OWNER:
            return
        # Without the lock, two owners who demote each other at the same time would leave none.
        tenants.lock_organization(connection, organization_id)
        if store.count_members(connection, organization_id, role=Role.OWNER) == 1:
            raise LastOwnerError("This is the last owner. Make somebody else an owner first.")

    def _revoke_access(
        self, connection: sa.Connection, organization_id: str, member: Member, *, by: Actor
    ) -> None:
        # Who changes their own role stays signed in: sessions hold no role, so the new one applies.
        if by.id != member.person_id:
            sessions.delete_sessions_of(connection, member.person_id)
        invitations.delete_invitations_by(connection, organization_id, member.person_id)
