"""Describe refused managed work as a `DenialEnvelope`: six flat fields that name the limit."""

from __future__ import annotations

import msgspec

from headgate.kit.errors import HeadgateError
from headgate.kit.log import mask_text
from headgate.kit.money import NANO_PER_DOLLAR
from headgate.kit.rate_limiter import RateLimitedError
from headgate.relay.managed_calls import PlanConcurrencyError
from headgate.relay.ports import Denial, HoldRefusedError

RATE = "rate"
STATUSES = {"quota": 403, RATE: 429, "credit": 402, "wallet": 402}
CODES = {
    "quota": "quota_exceeded",
    RATE: "rate_limited",
    "credit": "credits_exhausted",
    "wallet": "wallet_empty",
}
NANO_PER_CREDIT = 1_000_000


class DenialEnvelope(msgspec.Struct, frozen=True):
    """Name the limit that refused managed work. `current` is what is used and held of the `limit`:
    in credits in the layer `credit`, in US dollars for a budget and the wallet, in calls or tokens
    per minute in the layer `rate`."""

    code: str
    layer: str
    key: str
    current: float
    limit: float
    reason: str

    @property
    def status(self) -> int:
        return STATUSES[self.layer]


def find_envelope(error: HeadgateError) -> DenialEnvelope | None:
    """Return the envelope of an error by which the gate refused managed work; None for any other,
    such as the provider's own rate limit."""
    if isinstance(error, HoldRefusedError):
        return _describe_hold(error.denial, error.message)
    if isinstance(error, PlanConcurrencyError):
        return DenialEnvelope(
            CODES[RATE],
            RATE,
            "concurrent_requests",
            error.running,
            error.limit,
            mask_text(error.message),
        )
    if isinstance(error, RateLimitedError) and error.rate_limits:
        rate = min(error.rate_limits, key=lambda each: each.remaining)
        return DenialEnvelope(
            CODES[RATE],
            RATE,
            f"{rate.unit}_per_minute",
            rate.limit - rate.remaining,
            rate.limit,
            mask_text(error.message),
        )
    return None


def _describe_hold(denial: Denial, message: str) -> DenialEnvelope:
    unit = NANO_PER_CREDIT if denial.layer == "credit" else NANO_PER_DOLLAR
    return DenialEnvelope(
        CODES[denial.layer],
        denial.layer,
        denial.key,
        (denial.used_nano + denial.held_nano) / unit,
        denial.limit_nano / unit,
        mask_text(message),
    )
