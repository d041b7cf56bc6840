"""The SQL of organizations, projects, people, sessions and invitations."""

from headgate.accounts.store.invitations import INVITATIONS
from headgate.accounts.store.people import IDENTITIES, MEMBERSHIPS, PEOPLE
from headgate.accounts.store.sessions import SESSIONS
from headgate.accounts.store.tenants import ORGANIZATIONS, PROJECTS, TOPIC

__all__ = [
    "IDENTITIES",
    "INVITATIONS",
    "MEMBERSHIPS",
    "ORGANIZATIONS",
    "PEOPLE",
    "PROJECTS",
    "SESSIONS",
    "TOPIC",
]
