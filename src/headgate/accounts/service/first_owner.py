"""The first owner: created by a command on the machine, or by an invitation of the first start.

There is no default password. While nobody can sign in, DIR/first-keys.json (mode 0600) holds
`owner_invitation`. Whoever accepts it owns the first organization and operates the installation.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from headgate.accounts.model import Person, PersonExistsError, PersonRequest, Role
from headgate.accounts.service.accounts import AccountService
from headgate.accounts.service.invitations import InvitationService
from headgate.accounts.service.people import PersonService
from headgate.audit.model import COMMAND_LINE, SYSTEM
from headgate.kit.failpoint import failpoint
from headgate.kit.private_file import read_private_json, write_private_json

INVITATION_NAME = "owner_invitation"


class FirstOwner:
    """Create the first owner. `file` is DIR/first-keys.json; `is_shared` says whether several
    processes use the database."""

    def __init__(
        self,
        accounts: AccountService,
        people: PersonService,
        invitations: InvitationService,
        *,
        file: Path,
        is_shared: bool,
    ) -> None:
        self._accounts = accounts
        self._people = people
        self._invitations = invitations
        self._file = file
        self._is_shared = is_shared

    def exists(self, connection: sa.Connection) -> bool:
        """Return whether anybody can sign in."""
        return self._people.count(connection) > 0

    def invite(self, connection: sa.Connection) -> bool:
        """Write the invitation into the file unless somebody can sign in. Return whether it is
        there. Needs the first organization.

        The file is on the disk before this transaction commits, so a start that dies in between
        makes another invitation instead of losing this one.
        """
        if self.exists(connection):
            return False
        stored = read_private_json(self._file)
        is_open = self._invitations.is_operator_invited(connection)
        if is_open and (INVITATION_NAME in stored or self._is_shared):
            return INVITATION_NAME in stored
        if self._is_shared and not stored:
            # The process that made the first keys is about to write the invitation next to them.
            return False
        self._invitations.revoke_for_operator(connection)
        organization = self._accounts.list_organizations(connection)[0]
        issued = self._invitations.create_for_operator(connection, organization.id, by=SYSTEM)
        write_private_json(self._file, {**stored, INVITATION_NAME: issued.token})
        failpoint("first_start_owner")
        return True

    def create(
        self, connection: sa.Connection, *, email: str, name: str, password_hash: str
    ) -> Person:
        """Create the owner of the first organization, who operates the installation.

        Raise `PersonExistsError` where there is anybody, `InvalidEmailError` and
        `InvalidNameError`.
        """
        if self.exists(connection):
            raise PersonExistsError(
                "There is an owner already. Add people by `headgate people add` or by invitation."
            )
        request = PersonRequest(
            email=email,
            name=name,
            password_hash=password_hash,
            is_operator=True,
            is_verified=True,
        )
        person = self._people.add(connection, request, by=COMMAND_LINE)
        organization = self._accounts.list_organizations(connection)[0]
        self._people.join(connection, person, organization.id, role=Role.OWNER, by=COMMAND_LINE)
        self._invitations.revoke_for_operator(connection)
        stored = read_private_json(self._file)
        if stored.pop(INVITATION_NAME, None) is not None:
            write_private_json(self._file, stored)
        return person
