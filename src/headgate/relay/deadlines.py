"""Choose the deadlines of a call: its credential's, else its model's, else the settings'."""

from __future__ import annotations

import functools

from headgate.kit.http.message import Timeouts
from headgate.relay.ports import Deadlines

MERGED_MAX = 1_024
"""Combinations that are cached: as many as there are models and credentials with deadlines."""


def make_deadlines(
    first_byte_seconds: float | None, idle_seconds: float | None, total_seconds: float | None
) -> Deadlines | None:
    """Build the deadlines of a model or credential; None where it sets none of its own."""
    if first_byte_seconds is None and idle_seconds is None and total_seconds is None:
        return None
    return Deadlines(first_byte_seconds, idle_seconds, total_seconds)


@functools.lru_cache(maxsize=MERGED_MAX)
def merge_timeouts(
    defaults: Timeouts, model: Deadlines | None, credential: Deadlines | None
) -> Timeouts:
    """Replace each of the default timeouts that the model, or before it the credential, sets."""
    named: dict[str, float] = {}
    for own in (model, credential):
        for name in Deadlines.__struct_fields__ if own is not None else ():
            seconds: float | None = getattr(own, name)
            if seconds is not None:
                named[name] = seconds
    return Timeouts(
        defaults.connect_seconds,
        named.get("first_byte_seconds", defaults.first_byte_seconds),
        named.get("idle_seconds", defaults.idle_seconds),
        named.get("total_seconds", defaults.total_seconds),
    )


def cap_timeouts(timeouts: Timeouts, seconds: float) -> Timeouts:
    """Return timeouts of which none is longer than this."""
    return Timeouts(
        min(timeouts.connect_seconds, seconds),
        min(timeouts.first_byte_seconds, seconds),
        min(timeouts.idle_seconds, seconds),
        min(timeouts.total_seconds, seconds),
    )
