"""Make identifiers that carry their type and sort by time."""

from __future__ import annotations

import itertools
import secrets
import time


class IdGenerator:
    """Make ids such as `req_018f3c2a9b4d7e21c09a0000002a`: prefix, milliseconds, process, counter.
    Unique over processes (48 random bits each) and cheap enough for every call; not secret."""

    def __init__(self) -> None:
        self._process = secrets.token_hex(6)
        self._counter = itertools.count(secrets.randbits(16))

    def make(self, prefix: str) -> str:
        count = next(self._counter) & 0xFFFFFFFF
        return f"{prefix}_{time.time_ns() // 1_000_000:012x}{self._process}{count:08x}"


def first_id(prefix: str, unix_seconds: float) -> str:
    """Return a lower bound: all ids of that prefix made before the time sort below it."""
    return f"{prefix}_{int(unix_seconds * 1000):012x}"
