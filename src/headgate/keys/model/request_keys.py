"""Which of the keys counts that a request presents in several headers."""

from __future__ import annotations

from collections.abc import Sequence

from headgate.kit.errors import HeadgateError, Kind
from headgate.relay.ports import Grant, Grants

KEY_PREFIX = b"hg_"
"""With what every key of Headgate begins; a token without it is meant for somebody else."""


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
    """Return the grant of the first token that is good, and the token.

    Tokens of others are passed over, and so are keys that are not good, as long as one is. Raises
    `ConflictingApiKeysError` where two different keys are good, and as `Grants.find` where none is.
    """
    own = [each for each in tokens if each.startswith(KEY_PREFIX)] or [tokens[0]]
    if len(own) == 1:
        return grants.find(own[0]), own[0]
    good = [(grant, token) for token in own if (grant := _try_token(grants, token)) is not None]
    if not good:
        return grants.find(own[0]), own[0]
    if any(grant.key_id != good[0][0].key_id for grant, _ in good):
        raise ConflictingApiKeysError(
            "The headers Authorization, x-api-key and api-key carry two different keys that are "
            "both good, so it is not clear who asks. Send one of them."
        )
    return good[0]


def refuse_repeated() -> DuplicateAuthorizationError:
    """Return the refusal of a request with two Authorization headers."""
    return DuplicateAuthorizationError("A request has at most one Authorization header.")


def _try_token(grants: Grants, token: bytes) -> Grant | None:
    try:
        return grants.find(token)
    except HeadgateError:
        return None
