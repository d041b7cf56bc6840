"""Invitations: a link that makes somebody a member, once, until it expires."""

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
from headgate.kit.ids import Ids

TOKEN_PREFIX = "hg_invite_"
NOT_OPEN = "This invitation is not known, was taken up, or is over."


class InvitationService:
    """The invitations of one installation. Nothing here commits: the caller does."""

    def __init__(
        self, clock: Clock, ids: Ids, audit: AuditLog, people: PersonService, *, open_seconds: float
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
        """A new invitation with its token. Raises `InvalidEmailError`, and `RoleNotAllowedError`
        where somebody who is no owner invites one."""
        if role is Role.OWNER and by_role is not Role.OWNER:
            raise RoleNotAllowedError("Only an owner invites an owner.")
        address = check_email(email, param=param)
        return self._issue(connection, organization_id, address, role=role, by=by)

    def create_for_owner(
        self, connection: sa.Connection, organization_id: str, *, by: Actor
    ) -> IssuedInvitation:
        """The invitation of an organization's first owner, whose address nobody knows yet: who
        takes it up gives one."""
        return self._issue(connection, organization_id, None, role=Role.OWNER, by=by)

    def create_for_operator(
        self, connection: sa.Connection, organization_id: str, *, by: Actor
    ) -> IssuedInvitation:
        """The invitation of the first owner, who becomes the operator as well."""
        return self._issue(
            connection, organization_id, None, role=Role.OWNER, by=by, is_operator=True
        )

    def is_operator_invited(self, connection: sa.Connection) -> bool:
        """Whether somebody can still become the first owner by an invitation."""
        return store.has_open_operator_invitation(connection, now=self._clock.now())

    def revoke_for_operator(self, connection: sa.Connection) -> None:
        """Nobody becomes the first owner any more."""
        store.delete_operator_invitations(connection)

    def list(
        self, connection: sa.Connection, organization_id: str, *, limit: int, offset: int = 0
    ) -> tuple[list[Invitation], int]:
        """A page of the open ones, the oldest first, and how many there are."""
        now = self._clock.now()
        page = store.select_invitations(
            connection, organization_id, now=now, limit=limit, offset=offset
        )
        return page, store.count_invitations(connection, organization_id, now=now)

    def revoke(
        self, connection: sa.Connection, organization_id: str, invitation_id: str, *, by: Actor
    ) -> None:
        """Withdraw one that was not taken up. Raises `InvitationNotFoundError` for any other id."""
        if not store.delete_invitation(connection, organization_id, invitation_id):
            raise InvitationNotFoundError(NOT_OPEN)
        event = AuditEvent("invitation.revoked", organization_id, invitation_id)
        self._audit.record(connection, by, event)

    def find(self, connection: sa.Connection, token: str) -> Invitation:
        """The open invitation of a token. Raises `InvitationNotFoundError`."""
        found = None
        if token.startswith(TOKEN_PREFIX) and len(token) <= TOKEN_CHARACTERS_MAX:
            now = self._clock.now()
            found = store.select_open_invitation(connection, hash_token(token), now=now)
        if found is None:
            raise InvitationNotFoundError(NOT_OPEN)
        return found

    def list_for_email(self, connection: sa.Connection, email: str) -> list[Invitation]:
        """The open ones that are bound to an address in lower case."""
        return store.select_open_invitations_for(connection, email, now=self._clock.now())

    def accept(
        self,
        connection: sa.Connection,
        invitation: Invitation,
        person: Person | PersonRequest,
        *,
        by: Actor,
    ) -> Person:
        """Make who takes it up a member: somebody who is known, or a new person.

        Raises `InvitationNotFoundError` where somebody else was faster, and as `PersonService.add`.
        """
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
