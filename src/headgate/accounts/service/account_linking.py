"""Maps external OIDC identities to people."""

from __future__ import annotations

import sqlalchemy as sa

from headgate.accounts.model import (
    ExternalIdentity,
    InvalidEmailError,
    Login,
    Person,
    PersonRequest,
    SignInFailedError,
    check_email,
)
from headgate.accounts.service.invitations import InvitationService
from headgate.accounts.service.people import PersonService
from headgate.audit.model import Actor

UNKNOWN_IDENTITY = (
    "No account is linked to this identity. Ask for an invitation to your e-mail address."
)


class AccountLinking:
    """Accept a login that is already linked, whose verified e-mail belongs to a person, or that was
    invited. Create other people only for the domains that the operator trusts."""

    def __init__(
        self,
        people: PersonService,
        invitations: InvitationService,
        *,
        domains: tuple[str, ...] = (),
        trusted_domains: tuple[str, ...] = (),
    ) -> None:
        self._people = people
        self._invitations = invitations
        self._domains = frozenset(map(str.lower, domains))
        self._trusted = frozenset(map(str.lower, trusted_domains))

    def find_login(self, connection: sa.Connection, external: ExternalIdentity) -> Login | None:
        """Return the login of an identity that is linked already. Only reads."""
        return self._people.find_login(connection, external.issuer, external.subject)

    def has_account(self, connection: sa.Connection, external: ExternalIdentity) -> bool:
        """Return whether the verified e-mail belongs to somebody who may sign in. Only reads."""
        email = read_email(external)
        return (
            email is not None
            and self._people.find_with_password_hash(connection, email)[0] is not None
        )

    def link(self, connection: sa.Connection, external: ExternalIdentity, *, by: Actor) -> Login:
        """Link the identity to the person of its verified e-mail. Raise `SignInFailedError`."""
        email = read_email(external)
        person = None if email is None else self._people.find(connection, email)
        return self._link(connection, external, person, by=by)

    def accept_login(
        self, connection: sa.Connection, external: ExternalIdentity, *, by: Actor
    ) -> Login:
        """Return the login of the identity, which is linked, or whose person is created, where
        necessary.

        Raise `SignInFailedError` for everybody else.
        """
        email = read_email(external)
        domain = "" if email is None else email.rpartition("@")[2]
        # Checked first, so that removing a domain also locks out people who are linked already.
        if self._domains and domain not in self._domains:
            raise SignInFailedError("E-mail addresses of this domain cannot sign in here.")
        known = self.find_login(connection, external)
        if known is not None:
            return known
        person = None if email is None else self._people.find(connection, email)
        if person is None and email is not None:
            person = self._add(
                connection, email, external, is_trusted=domain in self._trusted, by=by
            )
        return self._link(connection, external, person, by=by)

    def _add(
        self,
        connection: sa.Connection,
        email: str,
        external: ExternalIdentity,
        *,
        is_trusted: bool,
        by: Actor,
    ) -> Person | None:
        invitations = self._invitations.list_for_email(connection, email)
        if not invitations and not is_trusted:
            return None
        # `check_name` refuses what an issuer allows in a display name, and that must not end a
        # sign-in.
        name = "".join(each for each in external.name if each.isprintable()).strip()
        request = PersonRequest(email=email, name=name or email, is_verified=True)
        person = self._people.add(connection, request, by=by)
        for invitation in invitations:
            self._invitations.accept(connection, invitation, person, by=by)
        return person

    def _link(
        self,
        connection: sa.Connection,
        external: ExternalIdentity,
        person: Person | None,
        *,
        by: Actor,
    ) -> Login:
        if person is None:
            raise SignInFailedError(UNKNOWN_IDENTITY)
        self._people.link_identity(
            connection, person, issuer=external.issuer, subject=external.subject, by=by
        )
        login = self.find_login(connection, external)
        if login is None:
            raise SignInFailedError(UNKNOWN_IDENTITY)
        return login


def read_email(external: ExternalIdentity) -> str | None:
    """Return the verified e-mail in lower case, or None where there is none that is valid."""
    if external.email is None:
        return None
    try:
        return check_email(external.email)
    except InvalidEmailError:
        return None
