"""How much a provider lets a credential do, as its answers say."""

from __future__ import annotations

import msgspec

VALID_SECONDS = 7 * 86_400
REQUESTS_HEADER = b"x-ratelimit-limit-requests"
TOKENS_HEADER = b"x-ratelimit-limit-tokens"
LIMIT_DIGITS_MAX = 15


class Capacity(msgspec.Struct, frozen=True):
    """Requests and tokens for a minute; None where the provider did not say. `observed_at` in unix
    seconds."""

    requests: int | None
    tokens: int | None
    observed_at: float


def read_limit(value: bytes) -> int | None:
    """The number in a limit's header; None for what is none."""
    if len(value) <= LIMIT_DIGITS_MAX and value.isdigit():
        return int(value)
    return None
