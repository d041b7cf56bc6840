"""Keys: the format of tokens, the stored record, and scopes."""

from headgate.keys.model.key import (
    InvalidApiKeyError,
    InvalidKeyRequestError,
    IssuedKey,
    Key,
    KeyConflictError,
    KeyFilter,
    KeyNotFoundError,
    KeyRequest,
    KeyState,
    ScopeExceededError,
    find_state,
    is_visible_to,
)
from headgate.keys.model.permission import allows, names_platform
from headgate.keys.model.scope import Scope, find_excess, normalize_lists
from headgate.keys.model.token import (
    TOKEN_LENGTH_MAX,
    KeyKind,
    make_token,
    read_public_prefix,
)

__all__ = [
    "TOKEN_LENGTH_MAX",
    "InvalidApiKeyError",
    "InvalidKeyRequestError",
    "IssuedKey",
    "Key",
    "KeyConflictError",
    "KeyFilter",
    "KeyKind",
    "KeyNotFoundError",
    "KeyRequest",
    "KeyState",
    "Scope",
    "ScopeExceededError",
    "allows",
    "find_excess",
    "find_state",
    "is_visible_to",
    "make_token",
    "names_platform",
    "normalize_lists",
    "read_public_prefix",
]
