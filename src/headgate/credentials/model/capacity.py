"""The rate limits that providers state in the headers of their answers."""

from __future__ import annotations

import msgspec

VALID_SECONDS = 7 * 86_400
REQUESTS_HEADER = b"x-ratelimit-limit-requests"
TOKENS_HEADER = b"x-ratelimit-limit-tokens"
LIMIT_DIGITS_MAX = 15


class Capacity(msgspec.Struct, frozen=True):
    """Hold the requests and tokens per minute of a credential and model. None where the provider
    did not say. `observed_at` is in unix seconds."""

    requests: int | None
    tokens: int | None
    observed_at: float


def read_limit(value: bytes) -> int | None:
    """Parse the value of a limit header; None for anything but digits."""
    if len(value) <= LIMIT_DIGITS_MAX and value.isdigit():
        return int(value)
    return None
