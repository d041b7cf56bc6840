"""Connect to Valkey (or Redis), and leave it alone for a while when it fails."""

from __future__ import annotations

from typing import Any

import structlog
from redis import exceptions
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from headgate.kit.clock import Clock

PREFIX = "headgate:capacity:"
RETRY_SECONDS = 1.0
"""How long a Valkey that failed is left alone."""
CONNECTIONS_MAX = 64
FAILURES = (exceptions.RedisError, OSError, TimeoutError)

log = structlog.get_logger(__name__)


class ValkeyConnection:
    """Hold the client of one Valkey, and whether it answers."""

    def __init__(self, url: str, clock: Clock, *, timeout_seconds: float) -> None:
        pool_class: Any = BlockingConnectionPool
        pool = pool_class.from_url(
            url,
            max_connections=CONNECTIONS_MAX,
            timeout=timeout_seconds,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            retry=Retry(NoBackoff(), 0),
        )
        self.client: Redis = Redis.from_pool(pool)
        self._clock = clock
        self._retry_at = 0.0
        self.failures = 0

    @property
    def is_available(self) -> bool:
        return self._clock.monotonic() >= self._retry_at

    def note_failure(self, error: Exception) -> None:
        """Leave Valkey alone for a while."""
        self.failures += 1
        if self.is_available:
            log.warning("capacity.valkey_unreachable", error=f"{type(error).__name__}: {error}")
        self._retry_at = self._clock.monotonic() + RETRY_SECONDS
