"""Limits attempts to sign in, by client address and by account."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict

from headgate.kit.clock import Clock
from headgate.kit.errors import HeadgateError, Kind

# Addresses and accounts in memory. The least recently seen is dropped for a new one.
ENTRIES_MAX = 20_000
IPV6_PREFIX = 64


class TooManySignInsError(HeadgateError):
    """This address or this account has used up its sign-in attempts for now.

    Wait for the seconds in `Retry-After`.
    """

    kind = Kind.LIMITED
    code = "sign_in_too_often"


class LoginRateLimiter:
    """Limit attempts by a token bucket of one minute's allowance. The state is in the memory of
    this process."""

    def __init__(self, clock: Clock, *, per_minute: int) -> None:
        self._now = clock.monotonic
        self._per_minute = per_minute
        self._attempts: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, address: str, account: str) -> None:
        """Count an attempt. Raise `TooManySignInsError`, which is not counted."""
        now = self._now()
        keys = (f"from {find_client_network(address)}", f"for {account}")
        attempts = [self._count_recent(key, now) for key in keys]
        # A refused attempt is not counted, so that retries do not prolong the wait.
        if max(attempts) > self._per_minute - 1:
            seconds = (max(attempts) - self._per_minute + 1) * 60.0 / self._per_minute
            raise TooManySignInsError(
                "Too many attempts to sign in. Try again later.", retry_after_seconds=seconds
            )
        for key, count in zip(keys, attempts, strict=True):
            self._store(key, count + 1.0, now)

    def refund(self, address: str, account: str) -> None:
        now = self._now()
        for key in (f"from {find_client_network(address)}", f"for {account}"):
            self._store(key, max(0.0, self._count_recent(key, now) - 1.0), now)

    def _count_recent(self, key: str, now: float) -> float:
        count, at = self._attempts.get(key, (0.0, now))
        return max(0.0, count - (now - at) * self._per_minute / 60.0)

    def _store(self, key: str, count: float, now: float) -> None:
        self._attempts[key] = (count, now)
        self._attempts.move_to_end(key)
        if len(self._attempts) > ENTRIES_MAX:
            self._attempts.popitem(last=False)


def find_client_network(address: str) -> str:
    """Return the /64 network of an IPv6 address, since a subscriber has a whole one."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if found.version == 4:
        return address
    return str(ipaddress.ip_network((found, IPV6_PREFIX), strict=False))
