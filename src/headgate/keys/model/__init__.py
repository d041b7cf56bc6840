"""What a key is: the form of its token, its record, what it may do, and why one is refused."""

from headgate.keys.model.key import (
    InvalidKey,
    IssuedKey,
    Key,
    KeyConflict,
    KeyFilter,
    KeyMissing,
    KeyRequest,
    KeyRequestRefused,
    KeyState,
    ScopeExceeded,
    find_state,
    is_among,
)
from headgate.keys.model.permission import allows, names_platform
from headgate.keys.model.scope import Scope, check_form, find_excess
from headgate.keys.model.token import (
    ALPHABET,
    CHECKSUM_LENGTH,
    SECRET_LENGTH,
    TOKEN_LENGTH_MAX,
    KeyKind,
    encode_base62,
    make_token,
    name_token,
)

__all__ = [
    "ALPHABET",
    "CHECKSUM_LENGTH",
    "SECRET_LENGTH",
    "TOKEN_LENGTH_MAX",
    "InvalidKey",
    "IssuedKey",
    "Key",
    "KeyConflict",
    "KeyFilter",
    "KeyKind",
    "KeyMissing",
    "KeyRequest",
    "KeyRequestRefused",
    "KeyState",
    "Scope",
    "ScopeExceeded",
    "allows",
    "check_form",
    "encode_base62",
    "find_excess",
    "find_state",
    "is_among",
    "make_token",
    "name_token",
    "names_platform",
]
