"""The rules for provider secrets, and how a secret is masked."""

from __future__ import annotations

import re
from collections.abc import Sequence

from headgate.credentials.model.credential import API_KEY
from headgate.credentials.model.integration import Integration
from headgate.kit.http.message import Origin
from headgate.vault.model.base_url import InvalidCredentialError, parse_base_url

SECRET_CHARACTERS_MAX = 4096
HINT_CHARACTERS_MIN = 20
_SECRET = re.compile(r"[\x21-\x7e]+")


def check_secret(
    integration: Integration, secret: str, origin: Origin, *, auth_type: str = API_KEY
) -> None:
    """Raise `InvalidCredentialError` for text that cannot be a secret of that origin.

    The integration's pattern applies to its own API keys at its own address only. Any other secret
    just has to fit into a header.
    """
    if len(secret) > SECRET_CHARACTERS_MAX or not _SECRET.fullmatch(secret):
        message = f"A key must be 1 to {SECRET_CHARACTERS_MAX} printable characters without spaces."
        raise InvalidCredentialError(message, param="api_key")
    if auth_type != API_KEY:
        return
    # An integration without an address of its own has its pattern at every address.
    own_origin = parse_base_url(integration.base_url)[0] if integration.base_url else origin
    if origin == own_origin and not re.fullmatch(integration.secret_pattern, secret):
        message = (
            f"This is not a key of {integration.display_name}: "
            f"it must match {integration.secret_pattern}. Copy the whole key again."
        )
        raise InvalidCredentialError(message, param="api_key")


def mask_secret(secret: str, prefixes: Sequence[str]) -> str:
    """Mask a secret: public prefix, ellipsis, last 4 characters. Short secrets are masked whole."""
    if len(secret) < HINT_CHARACTERS_MIN:
        return "…"
    prefix = max((p for p in prefixes if secret.startswith(p)), key=len, default="")
    return f"{prefix}…{secret[-4:]}"
