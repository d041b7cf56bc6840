"""Connected applications, the grants that people gave them, and what an access token allows.

A person connects an application to a project: that is a connected application, and it has an
inference key, of which nobody ever has the token. Each time that the person agrees is a grant, with
its own scopes and chain of refresh tokens; so the same application on two machines has two.
"""

from __future__ import annotations

import msgspec

ACCESS_TOKEN_PREFIX = "hg_oat_"


class ConnectedApplication(msgspec.Struct, frozen=True, kw_only=True):
    """Represent an application that a person connected to a project. Times are unix seconds.

    `connected_at` is when it first got tokens. Until then the person has agreed, and the
    application has not come back with the code.
    """

    id: str
    organization_id: str
    project_id: str
    person_id: str
    key_id: str
    client_id: str
    client_name: str
    redirect_host: str
    created_at: float
    connected_at: float | None = None
    revoked_at: float | None = None


class GrantRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Represent one consent. It has ended with `ended_at`; its tokens are not accepted after it."""

    id: str
    application_id: str
    scopes: tuple[str, ...]
    resource: str
    created_at: float
    ended_at: float | None = None


class OAuthGrant(msgspec.Struct, frozen=True, kw_only=True):
    """Say for whom an application acts. The limits, the budget and the receipts of its calls are
    those of the key. `scopes` is closed, and holds only what the person still may. `expires_at` is
    in unix seconds, and is the access token's."""

    id: str
    key_id: str
    person_id: str
    organization_id: str
    project_id: str
    scopes: tuple[str, ...]
    expires_at: float
    client_name: str


class IssuedTokens(msgspec.Struct, frozen=True, kw_only=True):
    """Hold new tokens, which are not stored."""

    access_token: str
    refresh_token: str
    expires_in: int
    scopes: tuple[str, ...]

    def __repr__(self) -> str:
        return "IssuedTokens()"
