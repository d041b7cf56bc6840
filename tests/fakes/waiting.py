"""Waiting for another process, which sends no notice when it is done."""

from __future__ import annotations

import time
from collections.abc import Callable

POLL_SECONDS = 0.01


def wait_until(is_so: Callable[[], bool], timeout_seconds: float = 5.0) -> None:
    """Return as soon as the condition holds. Raises AssertionError after the time-out."""
    deadline = time.monotonic() + timeout_seconds
    while not is_so():
        assert time.monotonic() < deadline, f"not within {timeout_seconds} s"
        time.sleep(POLL_SECONDS)
