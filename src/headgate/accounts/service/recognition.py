"""Whom a person that another issuer vouches for is here."""

from __future__ import annotations

import sqlalchemy as sa

from headgate.accounts.model import (
    EmailRefused,
    Login,
    Person,
    PersonRequest,
    SignInRefused,
    Vouched,
    check_email,
)
from headgate.accounts.service.invitations import Invitations
from headgate.accounts.service.people import People
from headgate.audit.model import Actor

STRANGER = "Nobody here is known by this identity. Ask for an invitation to your e-mail address."


class Recognition:
    """Known is who came before, whose verified address is somebody's, or is invited. Nobody else
    is added, but for the domains that the operator trusts."""

    def __init__(
        self,
        people: People,
        invitations: Invitations,
        *,
        domains: tuple[str, ...] = (),
        trusted_domains: tuple[str, ...] = (),
    ) -> None:
        self._people = people
        self._invitations = invitations
        self._domains = frozenset(map(str.lower, domains))
        self._trusted = frozenset(map(str.lower, trusted_domains))

    def find(self, connection: sa.Connection, vouched: Vouched) -> Login | None:
        """Who came before; only reads."""
        return self._people.find_login(connection, vouched.issuer, vouched.subject)

    def is_known(self, connection: sa.Connection, vouched: Vouched) -> bool:
        """Whether the verified address is that of somebody who may sign in; only reads."""
        email = read_email(vouched)
        return email is not None and self._people.find_proof(connection, email)[0] is not None

    def link(self, connection: sa.Connection, vouched: Vouched, *, by: Actor) -> Login:
        """The person of the verified address, who is known from now on. Raises `SignInRefused`."""
        email = read_email(vouched)
        person = None if email is None else self._people.find(connection, email)
        return self._link(connection, vouched, person, by=by)

    def welcome(self, connection: sa.Connection, vouched: Vouched, *, by: Actor) -> Login:
        """Who came before, is known, or is invited or trusted and added. Raises `SignInRefused`."""
        email = read_email(vouched)
        domain = "" if email is None else email.rpartition("@")[2]
        if self._domains and domain not in self._domains:
            raise SignInRefused("People of this e-mail domain do not sign in here.")
        known = self.find(connection, vouched)
        if known is not None:
            return known
        person = None if email is None else self._people.find(connection, email)
        if person is None and email is not None:
            person = self._add(
                connection, email, vouched, is_trusted=domain in self._trusted, by=by
            )
        return self._link(connection, vouched, person, by=by)

    def _add(
        self,
        connection: sa.Connection,
        email: str,
        vouched: Vouched,
        *,
        is_trusted: bool,
        by: Actor,
    ) -> Person | None:
        invitations = self._invitations.list_for(connection, email)
        if not invitations and not is_trusted:
            return None
        name = "".join(each for each in vouched.name if each.isprintable()).strip()
        request = PersonRequest(email=email, name=name or email, is_verified=True)
        person = self._people.add(connection, request, by=by)
        for invitation in invitations:
            self._invitations.accept(connection, invitation, person, by=by)
        return person

    def _link(
        self, connection: sa.Connection, vouched: Vouched, person: Person | None, *, by: Actor
    ) -> Login:
        if person is None:
            raise SignInRefused(STRANGER)
        self._people.link(connection, person, issuer=vouched.issuer, subject=vouched.subject, by=by)
        login = self.find(connection, vouched)
        if login is None:
            raise SignInRefused(STRANGER)
        return login


def read_email(vouched: Vouched) -> str | None:
    """The verified address in lower case, None for one that is none."""
    if vouched.email is None:
        return None
    try:
        return check_email(vouched.email)
    except EmailRefused:
        return None
