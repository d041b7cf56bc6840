"""The rate limit headers of every answer.

They follow from the request alone: each call finds the limits untouched, and takes one request and
its input tokens.
"""

from __future__ import annotations

from headgate_simulator.faults import FaultSpec

REQUESTS_PER_MINUTE = 10_000
TOKENS_PER_MINUTE = 2_000_000


def headers(tokens_used: int, fault: FaultSpec) -> dict[str, str]:
    """Return the six headers, as the fault overrides them."""
    left = max(0, TOKENS_PER_MINUTE - tokens_used)
    natural = {
        "limit_requests": str(REQUESTS_PER_MINUTE),
        "limit_tokens": str(TOKENS_PER_MINUTE),
        "remaining_requests": str(REQUESTS_PER_MINUTE - 1),
        "remaining_tokens": str(left),
        "reset_requests": duration(60_000 / REQUESTS_PER_MINUTE),
        "reset_tokens": duration((TOKENS_PER_MINUTE - left) * 60_000 / TOKENS_PER_MINUTE),
    }
    return {
        f"x-ratelimit-{name.replace('_', '-')}": getattr(fault, name) or value
        for name, value in natural.items()
    }


def duration(milliseconds: float) -> str:
    """Return a time as OpenAI writes it: `120ms`, `1.5s`, `6m0s`."""
    if milliseconds < 1000:
        return f"{round(milliseconds)}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    seconds = f"{rest / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    return f"{int(minutes)}m{seconds}" if minutes else seconds
