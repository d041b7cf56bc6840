"""What an access token of a connected application allows."""

from __future__ import annotations

import msgspec

ACCESS_TOKEN_PREFIX = "hg_oat_"


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
