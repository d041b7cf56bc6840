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
from headgate.main.application import Application
from headgate.main.first_keys import read_first_keys, write_first_keys

INVITATION = "owner_invitation"


def prepare_owner(application: Application) -> bool:
    """Leave the invitation of the first owner, where nobody can sign in. Whether that is so.

    It is on the disk before it is in the database: a start that dies in between makes another. On
    a database that several processes share it lies where the first of them left it.
    """
    with application.database.transaction(alone=True) as connection:
        if application.people.count(connection):
            return False
        kept = read_first_keys(application)
        is_shared = application.settings.database_url is not None
        is_open = application.invitations.is_operator_invited(connection)
        if is_open and (INVITATION in kept or is_shared):
            return INVITATION in kept
        if is_shared and not kept:
            # The process that made the first keys is about to leave it beside them.
            return False
        application.invitations.revoke_for_operator(connection)
        organization = application.accounts.list_organizations(connection)[0]
        issued = application.invitations.create_for_operator(connection, organization.id, by=SYSTEM)
        write_first_keys(application, {**kept, INVITATION: issued.token})
        failpoint("first_start_owner")
    return True


def create_owner(application: Application, *, email: str, name: str, password_hash: str) -> Person:
    """The first owner and operator, at the word of who is at the machine.

    Raises `PersonExistsError` where there is anybody, `InvalidEmailError` and `InvalidNameError`.
    """
    with application.database.transaction(alone=True) as connection:
        if has_owner(application, connection):
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
        person = application.people.add(connection, request, by=COMMAND_LINE)
        organization = application.accounts.list_organizations(connection)[0]
        application.people.join(
            connection, person, organization.id, role=Role.OWNER, by=COMMAND_LINE
        )
        application.invitations.revoke_for_operator(connection)
        kept = read_first_keys(application)
        if kept.pop(INVITATION, None) is not None:
            write_first_keys(application, kept)
    return person


def has_owner(application: Application, connection: sa.Connection) -> bool:
    """Whether anybody can sign in."""
    return application.people.count(connection) > 0
