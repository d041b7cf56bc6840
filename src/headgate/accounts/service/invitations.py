"""Invitations: links that make somebody a member once, until they expire."""

from __future__ import annotations

import sqlalchemy as sa

from headgate.accounts.model import (
    Invitation,
    InvitationNotFoundError,
    IssuedInvitation,
    Person,
    PersonRequest,
    Role,
    RoleNotAllowedError,
    check_email,
)
from headgate.accounts.service.people import PersonService
from headgate.accounts.service.tokens import TOKEN_CHARACTERS_MAX, hash_token, make_token
from headgate.accounts.store import invitations as store
from headgate.audit.model import Actor, ActorKind, AuditEvent
from headgate.audit.service import AuditLog
from headgate.kit.clock import Clock
from headgate.kit.ids import IdGenerator

TOKEN_PREFIX = "hg_invite_"
NOT_OPEN = "This invitation does not exist, was accepted or revoked, or has expired."


class InvitationService:
    """Manage invitations. The caller commits the transaction."""

    def __init__(
        self,
        clock: Clock,
        ids: IdGenerator,
        audit: AuditLog,
        people: PersonService,
        *,
        open_seconds: float,
    ) -> None:
        self._clock = clock
        self._ids = ids
        self._audit = audit
        self._people = people
        self._open_seconds = open_seconds

    def create(
        self,
        connection: sa.Connection,
        organization_id: str,
        email: str,
        *,
        role: Role,
        by: Actor,
        by_role: Role,
        param: str = "email",
    ) -> IssuedInvitation:
        """Create an invitation for an e-mail address and return it with its token.

        Raise `InvalidEmailError`, and `RoleNotAllowedError` where somebody who is not an owner
        invites an owner.
        """
        if role is Role.OWNER and by_role is not Role.OWNER:
            raise RoleNotAllowedError("Only an owner can invite an owner.")
        address = check_email(email, param=param)
        return self._issue(connection, organization_id, address, role=role, by=by)

    def create_for_owner(
        self, connection: sa.Connection, organization_id: str, *, by: Actor
    ) -> IssuedInvitation:
        """Create the invitation of an organization's first owner, whose e-mail is not known yet."""
        return self._issue(connection, organization_id, None, role=Role.OWNER, by=by)

    def create_for_operator(
        self, connection: sa.Connection, organization_id: str, *, by: Actor
    ) -> IssuedInvitation:
        return self._issue(
            connection, organization_id, None, role=Role.OWNER, by=by, is_operator=True
        )

    def is_operator_invited(self, connection: sa.Connection) -> bool:
        return store.has_open_operator_invitation(connection, now=self._clock.now())

    def revoke_for_operator(self, connection: sa.Connection) -> None:
        store.delete_operator_invitations(connection)

    def list(
        self, connection: sa.Connection, organization_id: str, *, limit: int, offset: int = 0
    ) -> tuple[list[Invitation], int]:
        """Return a page of the open invitations, oldest first, and their total number."""
        now = self._clock.now()
        page = store.select_invitations(
            connection, organization_id, now=now, limit=limit, offset=offset
        )
        return page, store.count_invitations(connection, organization_id, now=now)

    def revoke(
        self, connection: sa.Connection, organization_id: str, invitation_id: str, *, by: Actor
    ) -> None:
        """Revoke an open invitation. Raise `InvitationNotFoundError`."""
        if not store.delete_invitation(connection, organization_id, invitation_id):
            raise InvitationNotFoundError(NOT_OPEN)
        event = AuditEvent("invitation.revoked", organization_id, invitation_id)
        self._audit.record(connection, by, event)

    def find(self, connection: sa.Connection, token: str) -> Invitation:
        """Return the open invitation of a token. Raise `InvitationNotFoundError`."""
        found = None
        # Nothing that cannot be a token is hashed and looked up.
        if token.startswith(TOKEN_PREFIX) and len(token) <= TOKEN_CHARACTERS_MAX:
            now = self._clock.now()
            found = store.select_open_invitation(connection, hash_token(token), now=now)
        if found is None:
            raise InvitationNotFoundError(NOT_OPEN)
        return found

    def list_for_email(self, connection: sa.Connection, email: str) -> list[Invitation]:
        """Return the open invitations of an address in lower case."""
        return store.select_open_invitations_for(connection, email, now=self._clock.now())

    def accept(
        self,
        connection: sa.Connection,
        invitation: Invitation,
        person: Person | PersonRequest,
        *,
        by: Actor,
    ) -> Person:
        """Make the invitee, an existing or a new person, a member and return them.

        Raise `InvitationNotFoundError` where it was accepted in the meantime, and the errors of
        `PersonService.add`.
        """
        # Before anything else, so that of two concurrent requests only one goes on.
        if not store.mark_accepted(connection, invitation.id, at=self._clock.now()):
            raise InvitationNotFoundError(NOT_OPEN)
        if isinstance(person, PersonRequest):
            person = self._people.add(connection, person, by=by)
        actor = Actor(ActorKind.PERSON, person.id, person.email, by.address, by.user_agent)
        organization_id = invitation.organization_id
        self._people.join(connection, person, organization_id, role=invitation.role, by=actor)
        if invitation.is_operator:
            person = self._people.make_operator(connection, person, by=actor)
            self.revoke_for_operator(connection)
        event = AuditEvent(
            "invitation.accepted", organization_id, invitation.id, {"person_id": person.id}
        )
        self._audit.record(connection, actor, event)
        return person

    def _issue(
        self,
        connection: sa.Connection,
        organization_id: str,
        email: str | None,
        *,
        role: Role,
        by: Actor,
        is_operator: bool = False,
    ) -> IssuedInvitation:
        now = self._clock.now()
        invitation = Invitation(
            id=self._ids.make("inv"),
            organization_id=organization_id,
            email=email,
            role=role,
            is_operator=is_operator,
            invited_by=by.id,
            created_at=now,
            expires_at=now + self._open_seconds,
        )
        token = make_token(TOKEN_PREFIX)
        store.insert_invitation(connection, invitation, digest=hash_token(token))
        fields = {"email": email or "", "role": role.value}
        event = AuditEvent("invitation.created", organization_id, invitation.id, fields)
        self._audit.record(connection, by, event)
        return IssuedInvitation(invitation, token)
