"""The first owner: made at the machine, or by an invitation that the first start leaves behind.

There is no default password. Until there is a person, DIR/first-keys.json (mode 0600) holds
`owner_invitation`, which makes whoever takes it up the owner of the first organization and the
operator of the installation, once.
"""

from __future__ import annotations

import sqlalchemy as sa

from headgate.accounts.model import Person, PersonExistsError, PersonRequest, Role
from headgate.audit.model import COMMAND_LINE, SYSTEM
from headgate.kit.failpoint import failpoint
from headgate.main.first_keys import read_first_keys, write_first_keys
from headgate.main.installation import Installation

INVITATION = "owner_invitation"


def prepare_owner(installation: Installation) -> bool:
    """Leave the invitation of the first owner, where nobody can sign in. Whether that is so.

    It is on the disk before it is in the database: a start that dies in between makes another. On
    a database that several processes share it lies where the first of them left it.
    """
    with installation.database.transaction(alone=True) as connection:
        if installation.people.count(connection):
            return False
        kept = read_first_keys(installation)
        is_shared = installation.settings.database_url is not None
        is_open = installation.invitations.is_operator_invited(connection)
        if is_open and (INVITATION in kept or is_shared):
            return INVITATION in kept
        if is_shared and not kept:
            # The process that made the first keys is about to leave it beside them.
            return False
        installation.invitations.revoke_for_operator(connection)
        organization = installation.accounts.list_organizations(connection)[0]
        issued = installation.invitations.create_for_operator(
            connection, organization.id, by=SYSTEM
        )
        write_first_keys(installation, {**kept, INVITATION: issued.token})
        failpoint("first_start_owner")
    return True


def create_owner(
    installation: Installation, *, email: str, name: str, password_hash: str
) -> Person:
    """The first owner and operator, at the word of who is at the machine.

    Raises `PersonExistsError` where there is anybody, `InvalidEmailError` and `InvalidNameError`.
    """
    with installation.database.transaction(alone=True) as connection:
        if has_owner(installation, connection):
            raise PersonExistsError(
                "There is an owner already. Further people: headgate people add, or invitations."
            )
        request = PersonRequest(
            email=email,
            name=name,
            password_hash=password_hash,
            is_operator=True,
            is_verified=True,
        )
        person = installation.people.add(connection, request, by=COMMAND_LINE)
        organization = installation.accounts.list_organizations(connection)[0]
        installation.people.join(
            connection, person, organization.id, role=Role.OWNER, by=COMMAND_LINE
        )
        installation.invitations.revoke_for_operator(connection)
        kept = read_first_keys(installation)
        if kept.pop(INVITATION, None) is not None:
            write_first_keys(installation, kept)
    return person


def has_owner(installation: Installation, connection: sa.Connection) -> bool:
    """Whether anybody can sign in."""
    return installation.people.count(connection) > 0
