"""Waiting for what another process does, which tells nobody when it has."""

from __future__ import annotations

import time
from collections.abc import Callable

POLL_SECONDS = 0.01


def wait_until(is_so: Callable[[], bool], timeout_seconds: float = 5.0) -> None:
    """Return as soon as it is so. AssertionError when it is not in time."""
    deadline = time.monotonic() + timeout_seconds
    while not is_so():
        assert time.monotonic() < deadline, f"not within {timeout_seconds} s"
        time.sleep(POLL_SECONDS)
