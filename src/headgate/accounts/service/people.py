"""Creates, changes, disables and finds people, and links them to external identities."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from headgate.accounts.model import (
    LinkedIdentity,
    Login,
    Membership,
    Person,
    PersonExistsError,
    PersonNotFoundError,
    PersonRequest,
    Role,
    SignInFailedError,
    check_email,
    check_name,
)
from headgate.accounts.model.person import ROLE_RANKS, LastOwnerError
from headgate.accounts.store import people as store
from headgate.accounts.store import sessions
from headgate.audit.model import Actor, AuditEvent
from headgate.audit.service import AuditLog
from headgate.kit.clock import Clock
from headgate.kit.ids import IdGenerator

# The same for every failed sign-in, so that nobody learns which accounts exist.
NOT_SIGNED_IN = "The e-mail address or the password is wrong."


class PersonService:
    """Manage people. The caller commits the transaction."""

    def __init__(self, clock: Clock, ids: IdGenerator, audit: AuditLog) -> None:
        self._clock = clock
        self._ids = ids
        self._audit = audit

    def add(self, connection: sa.Connection, request: PersonRequest, *, by: Actor) -> Person:
        """Create a person. Raise `InvalidEmailError`, `InvalidNameError` and
        `PersonExistsError`."""
        now = self._clock.now()
        email = check_email(request.email)
        if store.select_person_by_email(connection, email) is not None:
            raise PersonExistsError(f"There is already a person with the e-mail {email}.")
        person = Person(
            id=self._ids.make("pers"),
            email=email,
            name=check_name(request.name),
            is_operator=request.is_operator,
            created_at=now,
            email_verified_at=now if request.is_verified else None,
        )
        store.insert_person(connection, person, password_hash=request.password_hash)
        fields = {"email": person.email, "name": person.name, "is_operator": person.is_operator}
        self._record(connection, by, "person.created", person, fields)
        return person

    def join(
        self,
        connection: sa.Connection,
        person: Person,
        organization_id: str,
        *,
        role: Role,
        by: Actor,
    ) -> None:
        """Make the person a member. An existing member keeps the higher of both roles."""
        known = store.select_member(connection, organization_id, person.id)
        if known is not None and ROLE_RANKS[known.role] >= ROLE_RANKS[role]:
            return
        if known is None:
            now = self._clock.now()
            store.insert_membership(connection, organization_id, person.id, role=role, at=now)
        else:
            store.update_role(connection, organization_id, person.id, role)
        fields = {"role": role.value, "email": person.email}
        self._audit.record(
            connection, by, AuditEvent("member.added", organization_id, person.id, fields)
        )

    def get(self, connection: sa.Connection, person_id: str) -> Person:
        """Return the person. Raise `PersonNotFoundError`."""
        person = store.select_person(connection, person_id)
        if person is None:
            raise PersonNotFoundError("There is no such person.")
        return person

    def find(self, connection: sa.Connection, email: str) -> Person | None:
        """Return the person of an e-mail address in lower case."""
        return store.select_person_by_email(connection, email)

    def find_with_password_hash(
        self, connection: sa.Connection, email: str
    ) -> tuple[Person | None, str | None]:
        """Return the active person of an e-mail address, and their password hash."""
        person = store.select_person_by_email(connection, email)
        if person is None or person.disabled_at is not None:
            return None, None
        return person, store.select_password_hash(connection, person.id)

    def check_password_hash_unchanged(
        self, connection: sa.Connection, person: Person, stored: str
    ) -> Person:
        """Return the person as they are now. Raise `SignInFailedError` where they or their password
        changed while it was verified."""
        current, hashed = self.find_with_password_hash(connection, person.email)
        if current is None or current.id != person.id or hashed != stored:
            raise SignInFailedError(NOT_SIGNED_IN)
        return current

    def list_memberships(self, connection: sa.Connection, person_id: str) -> tuple[Membership, ...]:
        return store.select_memberships(connection, person_id)

    def list(
        self, connection: sa.Connection, *, limit: int, offset: int = 0
    ) -> tuple[list[Person], int]:
        """Return a page of all people, oldest first, and their total number."""
        return (
            store.select_people(connection, limit=limit, offset=offset),
            store.count_people(connection),
        )

    def count(self, connection: sa.Connection) -> int:
        return store.count_people(connection)

    def set_password(
        self, connection: sa.Connection, person: Person, password_hash: str, *, by: Actor
    ) -> int:
        """Store a new password hash and end all sessions. Return how many ended."""
        store.update_person(connection, person.id, {"password_hash": password_hash})
        self._record(connection, by, "person.password_changed", person)
        return sessions.delete_sessions_of(connection, person.id)

    def update_password_hash(
        self, connection: sa.Connection, person: Person, password_hash: str
    ) -> None:
        """Store a hash of the same password with current parameters. Sessions go on."""
        store.update_person(connection, person.id, {"password_hash": password_hash})

    def make_operator(self, connection: sa.Connection, person: Person, *, by: Actor) -> Person:
        if person.is_operator:
            return person
        store.update_person(connection, person.id, {"is_operator": True})
        self._record(connection, by, "person.made_operator", person)
        return self.get(connection, person.id)

    def disable(self, connection: sa.Connection, person: Person, *, by: Actor) -> Person:
        """Disable the person and end all their sessions. Raise `LastOwnerError` for the last
        operator."""
        if person.disabled_at is not None:
            return person
        if person.is_operator and store.count_operators(connection) == 1:
            raise LastOwnerError("This is the last operator. Make somebody else an operator first.")
        store.update_person(connection, person.id, {"disabled_at": self._clock.now()})
        sessions.delete_sessions_of(connection, person.id)
        self._record(connection, by, "person.disabled", person)
        return self.get(connection, person.id)

    def enable(self, connection: sa.Connection, person: Person, *, by: Actor) -> Person:
        if person.disabled_at is None:
            return person
        store.update_person(connection, person.id, {"disabled_at": None})
        self._record(connection, by, "person.enabled", person)
        return self.get(connection, person.id)

    def find_login(self, connection: sa.Connection, issuer: str, subject: str) -> Login | None:
        """Return the login of a linked identity, unless the person is disabled."""
        person = store.select_person_by_identity(connection, issuer, subject)
        if person is None or person.disabled_at is not None:
            return None
        return Login(person=person, memberships=store.select_memberships(connection, person.id))

    def link_identity(
        self, connection: sa.Connection, person: Person, *, issuer: str, subject: str, by: Actor
    ) -> Person:
        """Link an issuer's subject to the person, whose e-mail counts as verified from then on.

        Raise `SignInFailedError` where another subject of the issuer is linked: an e-mail address
        that was reassigned must not open the account. A password that was set before the e-mail was
        verified is removed with its sessions, since it may be somebody else's.
        """
        known = store.select_subject(connection, person.id, issuer)
        if known == subject:
            return person
        if known is not None or person.disabled_at is not None:
            raise SignInFailedError(
                "This identity does not belong to the account of its e-mail address."
            )
        now = self._clock.now()
        store.insert_identity(connection, LinkedIdentity(issuer, subject, person.id, now))
        if person.email_verified_at is None:
            store.update_person(
                connection, person.id, {"email_verified_at": now, "password_hash": None}
            )
            sessions.delete_sessions_of(connection, person.id)
        self._record(connection, by, "person.linked", person, {"issuer": issuer})
        return self.get(connection, person.id)

    def _record(
        self,
        connection: sa.Connection,
        by: Actor,
        action: str,
        person: Person,
        changes: dict[str, Any] | None = None,
    ) -> None:
        self._audit.record(connection, by, AuditEvent(action, None, person.id, changes or {}))
