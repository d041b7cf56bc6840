"""Limits the requests of each address that come without a login."""

from __future__ import annotations

from collections import OrderedDict

from headgate.accounts.service.login_rate_limiter import find_client_network
from headgate.kit.clock import Clock
from headgate.oauth.model.errors import TooManyOAuthRequestsError

ADDRESSES_MAX = 10_000


class AddressLimiter:
    """Limit requests by a token bucket of one minute's allowance, in the memory of this process."""

    def __init__(self, clock: Clock, *, per_minute: int) -> None:
        self._now = clock.monotonic
        self._per_minute = per_minute
        self._counts: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, address: str) -> None:
        """Count a request. Raise `TooManyOAuthRequestsError`, which is not counted."""
        now, network = self._now(), find_client_network(address)
        count, at = self._counts.get(network, (0.0, now))
        count = max(0.0, count - (now - at) * self._per_minute / 60.0)
        if count > self._per_minute - 1:
            raise TooManyOAuthRequestsError(
                "Too many requests of this address. Try again later.",
                retry_after_seconds=(count - self._per_minute + 1) * 60.0 / self._per_minute,
            )
        self._counts[network] = (count + 1.0, now)
        self._counts.move_to_end(network)
        if len(self._counts) > ADDRESSES_MAX:
            self._counts.popitem(last=False)
