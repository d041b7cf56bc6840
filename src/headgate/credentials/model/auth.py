"""Infers the type of a credential from the fields that came with it.

Every type sends one secret in one header: API keys, bearer tokens and OAuth 2 access tokens in the
header of their integration, custom credentials in a header that they name themselves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from headgate.credentials.model.credential import API_KEY
from headgate.kit.log import mask_text
from headgate.vault.model.base_url import InvalidCredentialError

BEARER_TOKEN = "bearer_token"
OAUTH2 = "oauth2"
CUSTOM = "custom"
OLD_NAMES = {"bearer": BEARER_TOKEN}
AUTH_TYPE_OF_FIELD: Mapping[str, str] = {
    "api_key": API_KEY,
    "token": BEARER_TOKEN,
    "bearer_token": BEARER_TOKEN,
    "access_token": OAUTH2,
    "value": CUSTOM,
}
"""The auth type that follows from each field that can hold the secret."""
AUTH_TYPES = (API_KEY, BEARER_TOKEN, OAUTH2, CUSTOM)
HEADER = re.compile(r"[a-z][a-z0-9-]{0,63}")
RESERVED_HEADERS = frozenset(
    {
        *("host", "connection", "content-length", "content-type", "content-encoding", "cookie"),
        *("transfer-encoding", "te", "trailer", "upgrade", "keep-alive", "expect", "accept"),
        *("accept-encoding", "user-agent", "date", "via", "forwarded", "origin", "range"),
    }
)
RESERVED_PREFIXES = ("proxy-", "sec-", "x-forwarded-", "x-headgate-", "if-")


class AuthMaterial(msgspec.Struct, frozen=True):
    """Hold the secret of a credential, with its type and the field that it came in. `header` is the
    header that carries it; None for the integration's own."""

    auth_type: str
    field: str
    secret: str
    header: str | None = None

    def __repr__(self) -> str:
        return f"AuthMaterial({self.auth_type}, {self.field})"


def infer_material(
    given: Mapping[str, str], *, auth_type: str | None, header: str | None, has_oauth_config: bool
) -> AuthMaterial:
    """Return the one secret among the given fields, and the type that it implies.

    Raise `InvalidCredentialError`; `param` is `auth_type`, `oauth_config`, `auth_data`, or
    `auth_data` with a field.
    """
    requested = None if auth_type is None else OLD_NAMES.get(auth_type, auth_type)
    if requested is not None and requested not in AUTH_TYPES:
        message = (
            f"Credentials of this type are not supported; use one of: {', '.join(AUTH_TYPES)}."
        )
        raise InvalidCredentialError(message, param="auth_type")
    if len(given) != 1:
        count = "several secrets" if given else "no secret"
        message = f"auth_data has {count}; it has exactly one of: {', '.join(AUTH_TYPE_OF_FIELD)}."
        raise InvalidCredentialError(message, param="auth_data")
    [(field, secret)] = given.items()
    inferred = AUTH_TYPE_OF_FIELD[field]
    if requested is not None and requested != inferred:
        message = f"auth_data.{field} is for credentials of type {inferred}, not {requested}."
        raise InvalidCredentialError(message, param="auth_type")
    if inferred == OAUTH2 and not has_oauth_config:
        message = (
            "An access_token needs the oauth_config that it was issued with, beside auth_data."
        )
        raise InvalidCredentialError(message, param="oauth_config")
    if (inferred == CUSTOM) is not (header is not None):
        message = "Give header and value together; only a custom credential has a header."
        raise InvalidCredentialError(message, param="auth_data.header")
    return AuthMaterial(inferred, field, secret, None if header is None else check_header(header))


def check_header(header: str) -> str:
    """Return the name in lower case. Raise `InvalidCredentialError` for a header that must not
    carry a secret."""
    name = header.lower()
    is_free = HEADER.fullmatch(name) and name not in RESERVED_HEADERS
    is_free = is_free and not name.startswith(RESERVED_PREFIXES)
    # A secret given as the name of the header by mistake would be stored in clear text.
    if not is_free or mask_text(name) != name:
        message = (
            "The header must be letters, digits and dashes, and not one that HTTP or Headgate uses."
        )
        raise InvalidCredentialError(message, param="auth_data.header")
    return name
