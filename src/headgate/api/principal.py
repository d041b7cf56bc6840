"""Who asks: a person who signed in, or a key."""

from __future__ import annotations

import enum
from collections.abc import Mapping

import msgspec

from headgate.accounts.model import Role
from headgate.api.errors import ForbiddenError
from headgate.audit.model import Actor, ActorKind
from headgate.keys.model import allows
from headgate.relay.ports import Grant


class PrincipalKind(enum.Enum):
    """How somebody proved who they are."""

    NOBODY = "nobody"
    PERSON = "person"
    KEY = "key"


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """A proven identity. `roles` has a person's role by organization id, `suspended` those of them
    that nothing is let through of; `token` is what was presented (never shown); `session_id` names
    the login, where it was one by cookie."""

    kind: PrincipalKind
    id: str = ""
    name: str = ""
    roles: Mapping[str, Role] = {}
    suspended: frozenset[str] = frozenset()
    is_operator: bool = False
    session_id: str | None = None
    grant: Grant | None = None
    token: bytes = b""

    def __repr__(self) -> str:
        return f"Principal({self.kind.value}, {self.id})"

    def holds(self, permission: str) -> bool:
        """Whether a management key may do this in its own organization."""
        if self.grant is None or not self.grant.management or not permission:
            return False
        return allows(self.grant.permissions, permission)

    @property
    def projects(self) -> tuple[str, ...]:
        """The projects to which a key is limited; empty for all of the organization."""
        return () if self.grant is None else self.grant.projects

    def may_see_project(self, project_id: str) -> bool:
        """Whether a project's objects are within reach of who asks."""
        return not self.projects or project_id in self.projects

    def check_organization_wide(self) -> None:
        """Raise `ForbiddenError` for a key that is limited to some projects."""
        if self.projects:
            raise ForbiddenError("This key is limited to some projects; this concerns all of them.")

    def to_actor(self, address: str, user_agent: str) -> Actor:
        """As the audit log names them."""
        kind = ActorKind.KEY if self.kind is PrincipalKind.KEY else ActorKind.PERSON
        return Actor(kind, self.id, self.name, address, user_agent)


NOBODY = Principal(kind=PrincipalKind.NOBODY)
