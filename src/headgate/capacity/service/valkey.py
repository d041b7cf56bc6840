"""What several processes count in one Valkey (or Redis): windows, and the shares of pools."""

from __future__ import annotations

from headgate.capacity.service.valkey_client import ValkeyConnection
from headgate.capacity.service.valkey_counters import ValkeyCounters
from headgate.capacity.service.valkey_pools import ValkeyPools
from headgate.kit.clock import Clock


class Valkey:
    """Hold the connection to a Valkey, and what is counted there."""

    def __init__(self, url: str, clock: Clock, *, timeout_seconds: float) -> None:
        """Raise `ValueError` for what is no URL of a Valkey."""
        self._connection = ValkeyConnection(url, clock, timeout_seconds=timeout_seconds)
        self.counters = ValkeyCounters(self._connection, clock)
        self.pools = ValkeyPools(self._connection.client, self._connection)

    @property
    def failures(self) -> int:
        return self._connection.failures

    async def close(self) -> None:
        """Send what is pending, and end all connections."""
        await self.counters.close()
        await self.pools.close()
        await self._connection.client.aclose()
