"""Says for which people connected applications may act."""

from __future__ import annotations

import sqlalchemy as sa

from headgate.accounts.model import Membership, PersonNotFoundError, Role
from headgate.accounts.service import PersonService

ROLES = frozenset({Role.OWNER, Role.ADMIN})
"""The roles that may connect applications, and for which connected ones may act."""
NO_RIGHT = "The person who connected this application does not manage the organization any more."


def may_manage(membership: Membership) -> bool:
    return membership.role in ROLES and membership.suspended_at is None


def may_act(
    people: PersonService, connection: sa.Connection, person_id: str, organization_id: str
) -> bool:
    """Return whether a person could connect an application to the organization now."""
    try:
        person = people.get(connection, person_id)
    except PersonNotFoundError:
        return False
    return person.disabled_at is None and any(
        each.organization_id == organization_id and may_manage(each)
        for each in people.list_memberships(connection, person_id)
    )
