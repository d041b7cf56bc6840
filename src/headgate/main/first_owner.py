"""The first owner: made at the machine, or by an invitation that the first start leaves behind.

There is no default password. Until there is a person, DIR/first-keys.json (mode 0600) holds
`owner_invitation`, which makes whoever takes it up the owner of the first organization and the
operator of the installation, once.
"""

from __future__ import annotations

import json
import os

import sqlalchemy as sa

from headgate.accounts.model import Person, PersonExists, PersonRequest, Role
from headgate.audit.model import COMMAND_LINE, SYSTEM
from headgate.kit.failpoint import failpoint
from headgate.main.installation import FIRST_KEYS_FILE, Installation

INVITATION = "owner_invitation"


def prepare_owner(installation: Installation) -> bool:
    """Leave the invitation of the first owner, where nobody can sign in. Whether that is so.

    It is on the disk before it is in the database: a start that dies in between makes another. On
    a database that several processes share it lies where the first of them left it.
    """
    with installation.database.transaction(alone=True) as connection:
        if installation.people.count(connection):
            return False
        kept = _read(installation)
        is_shared = installation.settings.database_url is not None
        is_open = installation.invitations.is_first_open(connection)
        if is_open and (INVITATION in kept or is_shared):
            return INVITATION in kept
        installation.invitations.withdraw_first(connection)
        organization = installation.accounts.list_organizations(connection)[0]
        issued = installation.invitations.create_first(connection, organization.id, by=SYSTEM)
        _write(installation, {**kept, INVITATION: issued.token})
        failpoint("first_start_owner")
    return True


def create_owner(
    installation: Installation, *, email: str, name: str, password_hash: str
) -> Person:
    """The first owner and operator, at the word of who is at the machine.

    Raises `PersonExists` where there is anybody, `EmailRefused` and `NameRefused`.
    """
    with installation.database.transaction(alone=True) as connection:
        if has_owner(installation, connection):
            raise PersonExists(
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
        installation.invitations.withdraw_first(connection)
        kept = _read(installation)
        if kept.pop(INVITATION, None) is not None:
            _write(installation, kept)
    return person


def has_owner(installation: Installation, connection: sa.Connection) -> bool:
    """Whether anybody can sign in."""
    return installation.people.count(connection) > 0


def _read(installation: Installation) -> dict[str, str]:
    """What the file has, nothing where it was deleted."""
    try:
        return json.loads((installation.settings.data / FIRST_KEYS_FILE).read_text())
    except FileNotFoundError:
        return {}


def _write(installation: Installation, keys: dict[str, str]) -> None:
    """All of the file or none of it."""
    path = installation.settings.data / FIRST_KEYS_FILE
    made = path.with_suffix(".new")
    made.unlink(missing_ok=True)
    descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(keys, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    made.replace(path)
