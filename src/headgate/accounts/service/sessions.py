"""Sessions: opened at a sign-in, looked up on every request, ended at once."""

from __future__ import annotations

import sqlalchemy as sa

from headgate.accounts.model import Login, Person, PersonNotFoundError, Session
from headgate.accounts.service.tokens import (
    TOKEN_CHARACTERS_MAX,
    derive_token,
    hash_token,
    make_token,
)
from headgate.accounts.store import people
from headgate.accounts.store import sessions as store
from headgate.audit.model import Actor, ActorKind, AuditEvent
from headgate.audit.service import AuditLog
from headgate.kit.clock import Clock
from headgate.kit.ids import IdGenerator

# Per person. The least recently used one ends for a new one.
SESSIONS_MAX = 50
# `last_seen_at` is updated at most this often, since each update is a write.
LAST_SEEN_UPDATE_SECONDS = 60.0


class SessionService:
    """Manage sessions. The caller commits the transaction.

    Only the SHA-256 of a token is stored, so a copy of the database opens no session. Every request
    reads its session from the database: one that was ended is ended in every process.
    """

    def __init__(
        self,
        clock: Clock,
        ids: IdGenerator,
        audit: AuditLog,
        *,
        absolute_seconds: float,
        idle_seconds: float,
    ) -> None:
        self._clock = clock
        self._ids = ids
        self._audit = audit
        self._absolute_seconds = absolute_seconds
        self._idle_seconds = idle_seconds

    def open(
        self,
        connection: sa.Connection,
        person: Person,
        *,
        method: str,
        by: Actor,
    ) -> Login:
        now = self._clock.now()
        store.delete_expired_sessions(connection, now=now)
        # The list begins with the most recently used session.
        for old in store.select_sessions_of(connection, person.id)[SESSIONS_MAX - 1 :]:
            store.delete_session(connection, person.id, old.id)
        session = Session(
            id=self._ids.make("sess"),
            person_id=person.id,
            created_at=now,
            last_seen_at=now,
            expires_at=now + self._absolute_seconds,
            user_agent=by.user_agent,
            address=by.address,
        )
        token = make_token()
        store.insert_session(connection, session, digest=hash_token(token))
        actor = Actor(ActorKind.PERSON, person.id, person.email, by.address, by.user_agent)
        fields = {"person_id": person.id, "method": method}
        self._audit.record(
            connection, actor, AuditEvent("session.created", None, session.id, fields)
        )
        return self._login(connection, person, session, token)

    def find(self, connection: sa.Connection, token: str) -> Login | None:
        """Return the login of a token, or None where the session is over or the person disabled."""
        if len(token) > TOKEN_CHARACTERS_MAX:
            return None
        session = store.select_session(connection, hash_token(token))
        if session is None or self.ends_at(session) <= self._clock.now():
            return None
        person = people.select_person(connection, session.person_id)
        if person is None or person.disabled_at is not None:
            return None
        return self._login(connection, person, session, token)

    def is_stale(self, session: Session) -> bool:
        """Return whether `last_seen_at` is old enough to be updated."""
        wait = min(LAST_SEEN_UPDATE_SECONDS, self._idle_seconds / 10)
        return self._clock.now() - session.last_seen_at >= wait

    def touch(self, connection: sa.Connection, session: Session) -> None:
        store.touch_session(connection, session.id, at=self._clock.now())

    def ends_at(self, session: Session) -> float:
        """Return when the session ends if it is not used again, in unix seconds."""
        return min(session.expires_at, session.last_seen_at + self._idle_seconds)

    def list(self, connection: sa.Connection, person_id: str) -> list[Session]:
        """Return the active sessions of a person, the last used first."""
        now = self._clock.now()
        found = store.select_sessions_of(connection, person_id)
        return [session for session in found if self.ends_at(session) > now]

    def end(self, connection: sa.Connection, person_id: str, session_id: str, *, by: Actor) -> None:
        """End one session of a person. Raise `PersonNotFoundError` for any other id."""
        if not store.delete_session(connection, person_id, session_id):
            raise PersonNotFoundError("There is no such session.")
        self._audit.record(connection, by, AuditEvent("session.ended", None, session_id))

    def _login(
        self, connection: sa.Connection, person: Person, session: Session, token: str
    ) -> Login:
        return Login(
            person=person,
            memberships=people.select_memberships(connection, person.id),
            session=session,
            token=token,
        )


def derive_csrf_token(token: str) -> str:
    """Derive the CSRF token from the session's token, which no page can read. It ends with the
    session."""
    return derive_token(token, "csrf")
