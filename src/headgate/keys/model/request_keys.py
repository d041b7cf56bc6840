"""Chooses among the keys that a request presents in several headers."""

from __future__ import annotations

from collections.abc import Sequence

from headgate.kit.errors import HeadgateError, Kind
from headgate.relay.ports import Grant, Grants

# Tokens without this prefix are not Headgate keys, such as placeholders that an SDK demands.
KEY_PREFIX = b"hg_"


class ConflictingApiKeysError(HeadgateError):
    """The request carries two different valid keys.

    Send one key in one header.
    """

    kind = Kind.UNAUTHENTICATED
    code = "conflicting_api_keys"


class DuplicateAuthorizationError(HeadgateError):
    """The request carries more than one `Authorization` header.

    Send one.
    """

    kind = Kind.INVALID
    code = "duplicate_authorization"


def find_grant(grants: Grants, tokens: Sequence[bytes]) -> tuple[Grant, bytes]:
    """Return the grant of the first valid token, and the token.

    Tokens that are not Headgate keys are ignored, and so are invalid keys as long as one is valid.
    Raise `ConflictingApiKeysError` where two different keys are valid, and the error of
    `Grants.find` where none is.
    """
    own = [each for each in tokens if each.startswith(KEY_PREFIX)] or [tokens[0]]
    if len(own) == 1:
        return grants.find(own[0]), own[0]
    valid = [(grant, token) for token in own if (grant := _try_token(grants, token)) is not None]
    if not valid:
        return grants.find(own[0]), own[0]
    if any(grant.key_id != valid[0][0].key_id for grant, _ in valid):
        raise ConflictingApiKeysError(
            "The headers Authorization, x-api-key and api-key carry two different keys that are "
            "both valid. Send only one of them."
        )
    return valid[0]


def make_duplicate_error() -> DuplicateAuthorizationError:
    return DuplicateAuthorizationError("Send only one Authorization header.")


def _try_token(grants: Grants, token: bytes) -> Grant | None:
    try:
        return grants.find(token)
    except HeadgateError:
        return None
