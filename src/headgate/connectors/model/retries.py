"""Says when a failed request is sent again, and after which wait."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

BACKOFF_SECONDS = 0.1
BACKOFF_JITTER = 0.2


class RetryRules(msgspec.Struct, frozen=True):
    """Hold what a caller wants to be tried again. Without `uses_backoff` every wait is
    `delay_seconds`."""

    retries_max: int
    delay_seconds: float
    retries_all: bool
    uses_backoff: bool

    def applies_to(self, status: int, code: str) -> bool:
        """Return whether an answer is one that is tried again: a 5xx, which failures of the network
        are as well, unless it says that the provider was too slow; every failing one on wish."""
        if self.retries_all:
            return not 200 <= status < 300
        return status >= 500 and code != "provider_timeout"

    def compute_wait(
        self, retry: int, advised_seconds: float | None, draw: Callable[[], float]
    ) -> float:
        """Return the seconds before a retry, the first one being 1. `draw` returns a number in
        [0, 1). What the provider asks for counts where it is longer."""
        wait = self.delay_seconds
        if self.uses_backoff:
            wait = BACKOFF_SECONDS * 2**retry
            wait += wait * BACKOFF_JITTER * draw()
        return max(wait, advised_seconds or 0.0)
