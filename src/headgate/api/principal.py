"""The authenticated principal of a request: a person or a key."""

from __future__ import annotations

import enum
from collections.abc import Mapping

import msgspec

from headgate.accounts.model import Role
from headgate.api.errors import ForbiddenError
from headgate.audit.model import Actor, ActorKind
from headgate.connectors.model.caller import ToolCaller, make_application_caller, make_key_caller
from headgate.keys.model import allows
from headgate.oauth.model.grant import OAuthGrant
from headgate.relay.ports import Grant
from headgate.signatures.model import SignedRequest


class PrincipalKind(enum.Enum):
    ANONYMOUS = "anonymous"
    PERSON = "person"
    KEY = "key"


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Represent who sent a request. `roles` maps organization ids to a person's role. `suspended`
    has those of them that are suspended. `token` is the secret that was presented. `session_id` is
    set for a login by cookie."""

    kind: PrincipalKind
    id: str = ""
    name: str = ""
    roles: Mapping[str, Role] = {}
    suspended: frozenset[str] = frozenset()
    is_operator: bool = False
    session_id: str | None = None
    grant: Grant | None = None
    signed: SignedRequest | None = None
    """What is left to check of a signed request."""
    token: bytes = b""
    application: OAuthGrant | None = None
    """The connected application that acts; `grant` is that of its key."""

    def __repr__(self) -> str:
        return f"Principal({self.kind.value}, {self.id})"

    def holds(self, permission: str) -> bool:
        if self.grant is None or not self.grant.management or not permission:
            return False
        return allows(self.grant.permissions, permission)

    @property
    def own_key_id(self) -> str | None:
        """Return the id of an inference key, which may see nothing but its own; None for others."""
        return None if self.grant is None or self.grant.management else self.grant.key_id

    @property
    def projects(self) -> tuple[str, ...]:
        """Return the projects to which a key is limited; empty for all of the organization."""
        return () if self.grant is None else self.grant.projects

    def may_see_project(self, project_id: str) -> bool:
        """Return whether the principal may know about the objects of a project."""
        return not self.projects or project_id in self.projects

    def check_organization_wide(self) -> None:
        """Raise `ForbiddenError` for a key that is limited to some projects."""
        if self.projects:
            raise ForbiddenError(
                "This key is limited to some projects, and the operation concerns all of them."
            )

    def to_actor(self, address: str, user_agent: str) -> Actor:
        application = self.application
        if application is not None:
            person_id, client = application.person_id, application.client_name
            return Actor(ActorKind.PERSON, person_id, client, address, user_agent)
        kind = ActorKind.KEY if self.kind is PrincipalKind.KEY else ActorKind.PERSON
        return Actor(kind, self.id, self.name, address, user_agent)

    def to_tool_caller(self, address: str, user_agent: str) -> ToolCaller:
        """Return the principal as a caller of tools. Only keys and applications are callers."""
        assert self.grant is not None, "the gate let a key or an application through"
        application = self.application
        if application is None:
            return make_key_caller(
                self.grant,
                address=address,
                user_agent=user_agent,
                is_signed=self.signed is not None,
            )
        return make_application_caller(
            application, self.grant, address=address, user_agent=user_agent
        )


ANONYMOUS = Principal(kind=PrincipalKind.ANONYMOUS)
